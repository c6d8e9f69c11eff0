"""How long the pages and reports take that read a million records, and what PostgreSQL does."""

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import psutil
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client

from telemetry.export import Format, exported

ROUNDS = 15
STATUS = (
    ("GET models/status", "/api/v1/ai/models/status"),
    ("GET resources/metrics, 1 h", "/api/v1/ai/resources/metrics?hours=1"),
    ("GET resources/metrics, 24 h", "/api/v1/ai/resources/metrics?hours=24"),
    ("GET resources/metrics, 720 h", "/api/v1/ai/resources/metrics?hours=720"),
)
ADMIN = (
    ("admin: list of requests", "/admin/telemetry/orchestratorrequest/"),
    ("admin: requests of a tenant", "/admin/telemetry/orchestratorrequest/?tenant=team-3"),
    ("admin: requests of a key", "/admin/telemetry/orchestratorrequest/?key=team-3-key-1"),
    ("admin: failed requests", "/admin/telemetry/orchestratorrequest/?success__exact=0"),
    ("admin: one request by its id", "/admin/telemetry/orchestratorrequest/?q=req-000000500000"),
    ("admin: models in sum", "/admin/telemetry/modelmetric/"),
)


def measure() -> list[dict[str, Any]]:
    """Return a row for each page or report: times over the whole view, and the slowest plan."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    client = Client()
    user = get_user_model().objects.create_superuser("bench", "b@example.com", "bench")
    client.force_login(user)
    return [_measure(what, partial(_get, client, path)) for what, path in _paths()]


def _paths() -> Iterator[tuple[str, str]]:
    yield from STATUS
    now = dt.datetime.now(dt.UTC)
    start = (now - dt.timedelta(days=29, hours=5)).strftime("%FT%H:%M")
    for name in ("costs", "savings"):
        for group in ("tenant", "model", "task", "day"):
            path = f"/api/v1/ai/analytics/{name}?groupBy={group}&from={start}"
            yield f"GET {name} by {group}, 29 days and 5 h", path
    day = (now - dt.timedelta(hours=23)).strftime("%FT%H:%M")
    yield "GET costs by model, 23 h", f"/api/v1/ai/analytics/costs?from={day}"
    yield from ADMIN


def _get(client: Client, path: str) -> None:
    answer = client.get(path, headers={"host": "localhost"})
    assert answer.status_code == 200, (path, answer.status_code)
    answer.getvalue()


def _measure(what: str, ask: Callable[[], None]) -> dict[str, Any]:
    times_ms = []
    with _noting() as queries:
        ask()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        ask()
        times_ms.append((time.perf_counter() - began) * 1000)
    plans = [_explain(sql, params) for sql, params in queries if sql.lstrip().startswith("SELECT")]
    slowest = max(plans, key=lambda plan: plan[0], default=(0.0, 0, "-"))
    return {
        "what": what,
        "median_ms": round(median(times_ms), 1),
        "most_ms": round(max(times_ms), 1),
        "queries": len(queries),
        "rows": slowest[1],
        "plan": f"{slowest[2]}: {slowest[0]:.1f} ms",
    }


@contextmanager
def _noting() -> Iterator[list[tuple[str, Any]]]:
    noted: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        noted.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield noted


def _explain(sql: str, params: Any) -> tuple[float, int, str]:
    """Return the time in ms, the rows that scans returned, and the scans, of one statement."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
        answer = cursor.fetchone()[0]
    plan = (answer if isinstance(answer, list) else json.loads(answer))[0]
    scans = list(_scans(plan["Plan"]))
    rows = sum(int(s["Actual Rows"] * s["Actual Loops"]) for s in scans)
    kinds: dict[str, int] = {}
    for scan in scans:
        table = scan.get("Relation Name") or scan.get("Index Name", "")
        name = f"{scan['Node Type']} on {table.split('_p2')[0]}"
        kinds[name] = kinds.get(name, 0) + 1
    said = ", ".join(name if n == 1 else f"{n} × {name}" for name, n in kinds.items())
    return plan["Execution Time"], rows, said or plan["Plan"]["Node Type"]


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    below = node.get("Plans", [])
    if "Scan" in node["Node Type"] and "Bitmap Index" not in node["Node Type"]:
        # Partitions that were never looked at are none of the plan's cost.
        if node["Actual Loops"]:
            yield node
        return
    for one in below:
        yield from _scans(one)


async def export_all(wanted: Format) -> dict[str, Any]:
    """Export everything there is; returns how long it took and what memory that needed."""
    process = psutil.Process()
    before_b = most_b = process.memory_info().rss
    size = 0
    now = dt.datetime.now(dt.UTC)
    began = time.perf_counter()
    async for chunk in exported(wanted, now - dt.timedelta(days=40), now):
        size += len(chunk)
        most_b = max(most_b, process.memory_info().rss)
    took_s = time.perf_counter() - began
    return {
        "seconds": round(took_s, 1),
        "megabytes": round(size / 1e6, 1),
        "more_memory_mib_at_most": round((most_b - before_b) / 2**20, 1),
    }


async def retire_a_day(count: int) -> dict[str, Any]:
    """Put `count` requests into one day past its time, and drop it."""
    from telemetry.database import connect
    from telemetry.partitions import Retention, ensure_day, partition_name, retire, today

    server = await connect("benchmark")
    try:
        day = today() - dt.timedelta(days=60)
        await ensure_day(server, day)
        names = await server.execute(
            "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attnum > 0"
            " AND NOT attisdropped AND attrelid = 'telemetry_orchestratorrequest'::regclass"
            " AND attname NOT IN ('id', 'created_at')"
        )
        columns = (await names.fetchone() or ("",))[0]
        await server.execute(
            f"INSERT INTO {partition_name(day)} (id, created_at, {columns})"  # noqa: S608 - ours
            f" SELECT gen_random_uuid(), '{day} 12:00+00', {columns}"
            f" FROM telemetry_orchestratorrequest LIMIT {count}"
        )
        began = time.perf_counter()
        gone = await retire(server, today(), Retention(days=45, sums_days=400))
        took_s = time.perf_counter() - began
        assert gone == [day], gone
        return {"rows": count, "seconds": round(took_s, 3)}
    finally:
        await server.close()

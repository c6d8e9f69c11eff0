"""Select and route over HTTP, beside the bare servers, with the records counted afterwards."""

import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg

from benchmarks import servers
from benchmarks.load import CONNECTIONS, Peak, peak, steady

WORKERS = 2
ROUNDS = 5
SECONDS = 6.0
STEADY_SECONDS = 10.0
SELECT = "/api/v1/ai/select-model"
ROUTE = "/api/v1/ai/route-request"
SELECT_BODY = json.dumps(
    {"taskType": "completion", "requirements": {"complexity": "moderate", "priority": "normal"}}
)
ROUTE_BODY = json.dumps(
    {"taskType": "completion", "prompt": "Hello, world!", "requirements": {"maxTokens": 50}}
)
SETTLE_S = 60.0
MIB = 1024 * 1024


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, Any]:
    """Return every HTTP figure; the two sides of each comparison take turns, round by round."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        # The embedded PostgreSQL runs as a user of its own when this is root.
        folder.chmod(0o755)
        web, home = folder / "web", folder / "home"
        web.mkdir()
        with (
            servers.nginx(web) as upstream,
            servers.bare(WORKERS, f"{upstream}/api/generate") as bare,
            servers.orchestra(home, WORKERS, upstream) as ours,
        ):
            return _measure(bare, ours, home, rounds, seconds)


def _measure(bare: str, ours: str, home: Path, rounds: int, seconds: float) -> dict[str, Any]:
    rest = _memory(home)
    before = _rows(home)
    select = _compare((f"{bare}/echo", f"{ours}{SELECT}"), SELECT_BODY, rounds, seconds)
    route = _compare((f"{bare}/pass", f"{ours}{ROUTE}"), ROUTE_BODY, rounds, seconds)
    half = [
        steady(f"{ours}{path}", body, found["ours_per_s"] / 2, STEADY_SECONDS)
        for path, body, found in ((SELECT, SELECT_BODY, select), (ROUTE, ROUTE_BODY, route))
    ]
    answered = select["answered"] + route["answered"] + sum(s.requests - s.failed for s in half)
    records = _records(home, before, answered, runs=2 * (rounds + 1))
    return {
        "workers": WORKERS,
        "connections": CONNECTIONS,
        "select": select,
        "route": route,
        "half_rate": {
            name: {"rate": s.rate, "failed": s.failed, "p50_ms": s.p50_ms, "p95_ms": s.p95_ms,
                   "p99_ms": s.p99_ms}
            for name, s in zip(("select", "route"), half, strict=True)
        },
        "records": records,
        "memory_mib": {"at_rest": rest, "after_load": _memory(home)},
    }  # fmt: skip


def _compare(urls: tuple[str, str], body: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure bare and ours in turn; the ratio is taken within each round."""
    warm_up = [peak(url, body, 1.0) for url in urls][1]
    pairs: list[tuple[Peak, Peak]] = [
        (peak(urls[0], body, seconds), peak(urls[1], body, seconds)) for _ in range(rounds)
    ]
    ratios = [ours.per_s / bare.per_s for bare, ours in pairs]
    return {
        "bare_per_s": round(median(b.per_s for b, _ in pairs)),
        "ours_per_s": round(median(o.per_s for _, o in pairs)),
        "ratio": round(median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "ours_p50_ms": round(median(o.p50_ms for _, o in pairs), 2),
        "ours_p99_ms": round(median(o.p99_ms for _, o in pairs), 2),
        "errors": sum(o.errors for _, o in pairs) + warm_up.errors,
        "answered": sum(o.requests - o.errors for _, o in pairs) + warm_up.requests,
    }


def _records(home: Path, before: int, answered: int, runs: int) -> dict[str, Any]:
    """Wait until the spool has been shipped, and compare what arrived with what was answered.

    wrk hangs up on requests that are still under way when its time is over: they are recorded but
    not counted by it, at most one a connection and run.
    """
    deadline = time.monotonic() + SETTLE_S
    rows = _rows(home) - before
    started = time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(1.0)
        again = _rows(home) - before
        if again == rows and again >= answered:
            break
        rows = again
    return {
        "answered": answered,
        "rows": rows,
        "missing": max(0, answered - rows),
        "hung_up_at_most": CONNECTIONS * runs,
        "settled_after_s": round(time.monotonic() - started, 1),
    }


def _rows(home: Path) -> int:
    engines = json.loads((home / "run" / "engines.json").read_text())
    with psycopg.connect(engines["database_url"]) as connection:
        row = connection.execute("SELECT count(*) FROM telemetry_orchestratorrequest").fetchone()
    return int(row[0]) if row else 0


def _memory(home: Path) -> dict[str, float]:
    """Return the proportional memory of each process of the service, in MiB."""
    found: dict[str, float] = {}
    for process in psutil.process_iter(["cmdline", "environ"]):
        environ = process.info["environ"] or {}
        worker = environ.get("ORCHESTRA_WORKER", "")
        if worker and environ.get("ORCHESTRA_HOME") == str(home):
            found[worker] = round(process.memory_full_info().pss / MIB, 1)
    return dict(sorted(found.items()))

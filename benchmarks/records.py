"""`python -m benchmarks.records`: a million records from the spool to the reports made of them.

On a PostgreSQL of its own, set up as the embedded one is in service. Measures what a record costs,
how fast records are shipped, how long the pages and reports take that read them, and retention.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks import report

COUNT = 1_000_000
DAYS = 30
TENANTS, MODELS, TASKS = 8, 6, ("completion", "code", "analysis", "reasoning")
BACKLOG = 200_000  # records of a busy half minute, as they lie there after an outage
STEADY_PER_S, STEADY_S = 10_000, 20
CHUNK = 50_000
DAY_US = 86_400_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="how many records")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--write", help=argparse.SUPPRESS)  # the steady writer's own process
    options = parser.parse_args()
    if options.write:
        write_steadily(Path(options.write))
        return 0
    with database() as home:
        from benchmarks import records_queries

        results: dict[str, Any] = {"machine": report.machine(), "records": options.count}
        print(f"Measured on {results['machine']}, {options.count:,} records\n")
        backlog_us = BACKLOG * 1_000_000 // STEADY_PER_S
        for name, measure in (
            ("worker", lambda: fill(home / "spool", options.count)),
            ("month", lambda: asyncio.run(ship(home / "spool", options.count))),
            ("backlog_worker", lambda: fill(home / "backlog", BACKLOG, span_us=backlog_us)),
            ("backlog", lambda: asyncio.run(ship(home / "backlog", BACKLOG))),
            ("steady", lambda: asyncio.run(ship_steadily(home / "steady"))),
            ("queries", records_queries.measure),
            ("export_csv", lambda: asyncio.run(records_queries.export_all("csv"))),
            ("export_parquet", lambda: asyncio.run(records_queries.export_all("parquet"))),
            ("retention", lambda: asyncio.run(records_queries.retire_a_day(options.count))),
        ):
            results[name] = measure()
            print(shown(name, results[name]), "\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


@contextmanager
def database() -> Iterator[Path]:
    """Start PostgreSQL in a home of its own, migrated; yield where records may be spooled."""
    home = Path(tempfile.mkdtemp(prefix="orchestra-records-"))
    os.environ |= {"DJANGO_SETTINGS_MODULE": "orchestra_site.settings", "ORCHESTRA_HOME": str(home)}
    from orchestra_site.embedded.postgres import Postgres
    from orchestra_site.embedded.redis import Redis
    from orchestra_site.home import Home

    place = Home(home)
    place.prepare()
    os.environ |= {"DATABASE_URL": place.database_url, "REDIS_URL": place.redis_url}
    postgres, redis = Postgres(place), Redis(place)
    redis.launch()
    postgres.start()
    redis.wait_ready()
    try:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        yield home
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


def some_records(count: int, start_us: int, step_us: int) -> Iterator[Any]:
    """Yield requests as a month of several teams would make them, in order of time."""
    from telemetry.record import Attempt, RequestRecord

    dice = random.Random(count)  # noqa: S311  the same in every run
    for number in range(count):
        at_us = start_us + number * step_us
        # A few of them make most of the requests.
        model = f"model-{min(int(dice.expovariate(0.8)), MODELS - 1)}"
        tenant = min(int(dice.expovariate(0.6)), TENANTS - 1)
        took_ms = int(dice.lognormvariate(6, 1))
        failed = dice.random() < 0.02
        cost = dice.randrange(5_000_000)
        yield RequestRecord(
            id=at_us.to_bytes(8, "big") + dice.randbytes(8),
            request_id=f"req-{number:012d}",
            kind="route" if dice.random() < 0.8 else "chat",
            task_type=dice.choice(TASKS),
            priority="normal",
            created_at_us=at_us,
            selected_model=model,
            endpoint="ollama-local",
            chosen_model=model,
            reason="score 0.82, best of 7",
            success=not failed,
            status=502 if failed else 200,
            error_type="upstream_timeout" if failed else "",
            response_time_ms=took_ms,
            selection_time_us=22,
            prompt_tokens=120,
            completion_tokens=80,
            usage_estimated=dice.random() < 0.1,
            cost_nusd=cost,
            resource_pressure=0.41,
            worker="web-0",
            attempts=(Attempt(model, "ollama-local", took_ms),),
            tenant=f"team-{tenant}",
            key=f"team-{tenant}-key-{dice.randrange(3)}",
            baseline_model="model-0",
            baseline_nusd=3 * cost,
            baseline_known=True,
        )


def fill(spool_dir: Path, count: int, span_us: int = DAYS * DAY_US) -> dict[str, Any]:
    """Spool records of the last `span_us`; returns what the worker's part costs each."""
    from telemetry.recorder import Recorder

    recorder = Recorder(spool_dir, "web-0")
    start_us = time.time_ns() // 1000 - span_us
    records = some_records(count, start_us, span_us // count)
    cpu_s = 0.0
    while chunk := [record for _, record in zip(range(CHUNK), records, strict=False)]:
        began = time.process_time()
        for record in chunk:
            recorder.record(record)
        cpu_s += time.process_time() - began
    recorder.close()
    return {"cpu_us_per_record": round(cpu_s / count * 1e6, 2)}


async def ship(spool_dir: Path, count: int) -> dict[str, Any]:
    """Ship what is spooled as fast as it goes."""
    stop = asyncio.Event()
    seen = Seen(stop, count)
    before_s, began = time.process_time(), time.monotonic()
    server_before_s = server_cpu_s()
    await conduct(spool_dir, seen, stop)
    took_s, cpu_s = time.monotonic() - began, time.process_time() - before_s
    return {
        "shipped": seen.count,
        "per_s": round(seen.count / took_s),
        "conductor_cpu_us_per_record": round(cpu_s / seen.count * 1e6, 1),
        "postgres_cpu_us_per_record": round(
            (server_cpu_s() - server_before_s) / seen.count * 1e6, 1
        ),
        "conductor_rss_mib_at_most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


async def ship_steadily(spool_dir: Path) -> dict[str, Any]:
    """Ship while another process records 10,000 a second; returns how far behind it falls."""
    wanted = STEADY_PER_S * STEADY_S
    stop = asyncio.Event()
    seen = Seen(stop, wanted)
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.records", "--write", str(spool_dir)
    )
    before_s, began = time.process_time(), time.monotonic()
    try:
        async with asyncio.timeout(STEADY_S * 5):
            await conduct(spool_dir, seen, stop)
    finally:
        await writer.wait()
    took_s, cpu_s = time.monotonic() - began, time.process_time() - before_s
    lags = sorted(seen.lags_ms)
    return {
        "recorded_per_s": STEADY_PER_S,
        "shipped": seen.count,
        "seconds": round(took_s, 1),
        "conductor_cpu_us_per_record": round(cpu_s / seen.count * 1e6, 1),
        "lag_p50_ms": round(lags[len(lags) // 2]),
        "lag_p99_ms": round(lags[len(lags) * 99 // 100]),
        "lag_most_ms": round(lags[-1]),
    }


def write_steadily(spool_dir: Path) -> None:
    """Record at a steady rate; runs in a process of its own."""
    from telemetry.recorder import Recorder

    recorder = Recorder(spool_dir, "web-0")
    # Made beforehand: what it costs to make them up is no part of what is measured.
    records = list(some_records(STEADY_PER_S * STEADY_S, time.time_ns() // 1000, 1))
    began, done = time.monotonic(), 0
    while done < STEADY_PER_S * STEADY_S:
        while done < min(len(records), (time.monotonic() - began) * STEADY_PER_S):
            record = records[done]
            record.created_at_us = time.time_ns() // 1000
            recorder.record(record)
            done += 1
        time.sleep(0.002)
    recorder.close()


class Seen:
    """Counts what was shipped, and stops the shipper once it is all."""

    def __init__(self, stop: asyncio.Event, wanted: int) -> None:
        self.count, self.lags_ms = 0, list[float]()
        self._stop, self._wanted = stop, wanted

    def __call__(self, records: Any) -> None:
        now_us = time.time_ns() // 1000
        self.lags_ms += [(now_us - r.created_at_us) / 1000 for r in records[::50]]
        self.count += len(records)
        if self.count >= self._wanted:
            self._stop.set()


async def conduct(spool_dir: Path, seen: Seen, stop: asyncio.Event) -> None:
    """Ship, and fold sums in as the leader does, until told to stop."""
    import gc

    from telemetry.database import connect
    from telemetry.folding import fold
    from telemetry.leader import FOLD_EVERY_S
    from telemetry.shipper import Shipper
    from telemetry.waiting import pause

    # As the conductor does.
    gc.freeze()
    gc.set_threshold(50_000)
    leader = await connect("leader")

    async def fold_in() -> None:
        while not await pause(stop, FOLD_EVERY_S):
            await fold(leader)
        await fold(leader)

    shipper = Shipper(spool_dir, seen, retention_days=DAYS + 1)
    await asyncio.gather(shipper.run(stop), fold_in())
    await leader.close()


def server_cpu_s() -> float:
    """Return the CPU seconds that PostgreSQL's processes have used, those that ended included."""
    import psutil

    used = 0.0
    for process in psutil.process_iter(["name"]):
        # One that ends meanwhile counts as its parent's child.
        with suppress(psutil.Error):
            if process.info["name"] == "postgres" and _is_ours(process):
                times = process.cpu_times()
                used += times.user + times.system + times.children_user + times.children_system
    return used


def _is_ours(process: Any) -> bool:
    home = os.environ["ORCHESTRA_HOME"]
    return str(process.cwd()).startswith(home)


def shown(name: str, found: Any) -> str:
    """Return one part of the results as a table."""
    if name != "queries":
        return report.table((name.replace("_", " "), "measured"), list(found.items()))
    columns = ("what", "median_ms", "most_ms", "rows", "plan")
    return report.table(
        ("query", "median ms", "most ms", "rows read", "plan"),
        [tuple(query[column] for column in columns) for query in found],
    )


if __name__ == "__main__":
    sys.exit(main())

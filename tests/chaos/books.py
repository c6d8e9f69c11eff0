"""Processes are killed at random moments under load: every answer has its record, none has two.

    python -m tests.chaos.books [--seconds 300] [--rate 3000] [--away 120] [--seed 1]

Beside that PostgreSQL is away for a while, the spool's disk is full (that needs root), and damaged
frames lie in the spool. Money is at stake: keys, budgets, prices.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import audit, crowd, disk, stage, verdict
from tests.chaos.crowd import Pace, Question
from tests.chaos.disk import Disk
from tests.chaos.house import House, folder
from tests.chaos.killing import ENGINES, SERVICE, Trouble
from tests.chaos.outage import Engines
from tests.chaos.spenders import spending
from tests.chaos.verdict import Result
from tests.chaos.watch import watching

CALM_S = 1.0  # the least calm between two kills, and those of long runs, where one that dies
LONG_CALM_S = (2.0, 4.0)  # too often would be started ever more patiently
SETTLE_LIMIT_S = 90.0
DEADLINE_MS = 30_000
BYTES_A_RECORD = 400  # rather more than they have
DISK_BYTES = 320 << 20  # beside what waits while PostgreSQL is away
REPORT_LIMIT_S = 40.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how fast, and what happens; a rate of 0 is as fast as answers come."""

    seconds: float
    seed: int
    away_s: float
    rate: float = 0.0
    callers: int = 16
    at_length: bool = False  # with money, more victims, and the disk

    @property
    def calm_s(self) -> float:
        least, most = LONG_CALM_S
        return min(most, max(least, self.seconds / 60)) if self.at_length else CALM_S

    @property
    def victims(self) -> tuple[str, ...]:
        return (*SERVICE, *ENGINES) if self.at_length else SERVICE

    @property
    def settle_limit_s(self) -> float:
        return SETTLE_LIMIT_S + 2 * self.away_s

    @property
    def disk_bytes(self) -> int:
        return DISK_BYTES + int(self.rate * self.away_s * BYTES_A_RECORD)


async def measure(folder: Path, *, seconds: float, seed: int, callers: int = 16) -> Result:
    """Kill workers, the conductor and PostgreSQL for `seconds`, under as much load as goes."""
    return await run(folder, Plan(seconds, seed, away_s=seconds / 8, callers=callers))


async def run(folder: Path, plan: Plan) -> Result:
    """Return what was told and what was kept."""
    engines = Engines(folder / "engines")
    try:
        engines.redis.start()
        engines.postgres.start()
        urls = {"DATABASE_URL": engines.postgres.url, "REDIS_URL": engines.redis.url}
        with contextlib.ExitStack() as stack:
            small = None
            if plan.at_length and disk.available():
                spool = folder / "home" / "spool"
                small = stack.enter_context(disk.small_disk(spool, plan.disk_bytes))
            async with _service(folder, plan, urls) as (home, questions):
                dice = random.Random(plan.seed)  # noqa: S311
                trouble = Trouble(home, engines, dice, plan.calm_s)
                return await _measured(folder, plan, trouble, questions, small)
    finally:
        engines.redis.stop()
        engines.postgres.stop()


@contextlib.asynccontextmanager
async def _service(
    folder: Path, plan: Plan, urls: dict[str, str]
) -> AsyncIterator[tuple[House, list[Question]]]:
    if plan.at_length:
        async with spending(folder, **urls) as found:
            yield found
    else:
        async with stage.playing(folder, DEADLINE_MS, **urls) as (home, _):
            yield home, [Question("/api/v1/ai/select-model", json.dumps(stage.SELECT))]


async def _measured(
    folder: Path, plan: Plan, trouble: Trouble, questions: list[Question], small: Disk | None
) -> Result:
    home, began = trouble.home, time.monotonic()
    trouble.plant()
    port = int(home.url.rpartition(":")[2])
    pace = Pace(questions, plan.callers, plan.rate)
    async with watching(home) as seen:
        async with crowd.asking(pace, port, folder / "told") as told:
            await _befall(plan, trouble, small)
        seconds = time.monotonic() - began
        if plan.at_length:
            await trouble.end_workers()
        books = await asyncio.to_thread(audit.close, home, plan.settle_limit_s)
    reported = await _reported(home)
    return Result(told, seconds, trouble, books, seen, reported, at_length=plan.at_length)


async def _befall(plan: Plan, trouble: Trouble, small: Disk | None) -> None:
    """Let everything happen that the plan has; killing goes on all the while."""
    over, began = asyncio.Event(), time.monotonic()
    killing = asyncio.create_task(trouble.kill_around(plan.victims, over))
    try:
        await asyncio.sleep(plan.seconds / 3)
        leaving = asyncio.create_task(trouble.leave(plan.away_s))
        if plan.at_length:
            await asyncio.sleep(plan.away_s / 2)
            trouble.plant()
        await leaving
        if small is not None:
            await asyncio.sleep(plan.seconds / 20)
            await trouble.fill_at_once(small)
            await asyncio.sleep(plan.seconds / 20)
            await trouble.fill_slowly(small)
        if plan.at_length:
            await trouble.splice()
        await asyncio.sleep(max(CALM_S, plan.seconds - (time.monotonic() - began)))
    finally:
        over.set()
        await killing


async def _reported(home: House) -> int:
    """Return how many damaged pieces the service itself tells of."""
    deadline = time.monotonic() + REPORT_LIMIT_S
    while time.monotonic() < deadline:
        found = await home.ask_health()
        if "spool" in found:
            return int(found["spool"]["corrupt"])
        await asyncio.sleep(0.5)
    return 0


def main() -> int:
    """Return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.books", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of trouble (%(default)s)")
    parser.add_argument("--rate", type=float, default=3000.0, help="requests/s (%(default)s)")
    parser.add_argument("--away", type=float, default=120.0, help="s, PostgreSQL (%(default)s)")
    parser.add_argument("--callers", type=int, default=256, help="connections (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    disk.enter_own_mounts("tests.chaos.books", sys.argv[1:])
    plan = Plan(
        asked.seconds, asked.seed, asked.away, asked.rate, asked.callers, at_length=True
    )  # fmt: skip
    with folder() as place:
        result = asyncio.run(run(place, plan))
    print(verdict.show(result, plan.rate))
    print("\n".join(["", *(f"BROKEN  {fault}" for fault in result.faults)]))
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Steady load while endpoints fail in every way: who got a whole and right answer, who did not."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import stage
from tests.chaos.asking import Callers, Tally, Verdict
from tests.chaos.house import House
from tests.chaos.storm import Storm

LEAST_COMPLETE = 0.999
GRACE_S = 5.0  # beyond the deadline; who has no answer then hangs
NEVER = (Verdict.HUNG, Verdict.TRUNCATED, Verdict.CORRUPT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much load, and how much trouble."""

    seconds: float
    rate: float  # requests a second
    seed: int
    deadline_s: float = 120.0  # the default of every profile
    longest_s: float = 15.0  # of one trouble
    rested_s: float = 5.0  # what a probe needs to notice that an endpoint is back


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to."""

    plan: Plan
    tally: Tally
    befell: Counter[str]
    absorbed: int  # failed attempts that the service counted
    missing: int  # answered requests without a record
    doubled: int  # records there twice

    @property
    def faults(self) -> list[str]:
        """Return which promises were broken."""
        found = [f"{v}: {self.tally.verdicts[v]}" for v in NEVER if self.tally.verdicts[v]]
        if self.tally.complete_share < LEAST_COMPLETE:
            found.append(f"only {self.tally.complete_share:.3%} complete")
        found += [f"records missing: {self.missing}"] if self.missing else []
        return found + ([f"records doubled: {self.doubled}"] if self.doubled else [])


async def measure(folder: Path, plan: Plan) -> Result:
    """Return what callers got while the storm raged."""
    async with stage.playing(folder, round(plan.deadline_s * 1000)) as (home, servers):
        callers = Callers(home.url, stage.MODELS, plan.deadline_s + GRACE_S, plan.seed)
        await callers.warm_up()
        storm = Storm(servers, plan.seed, longest_s=plan.longest_s, rested_s=plan.rested_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(storm.rage(plan.seconds))
            group.create_task(steady(callers, plan.rate, plan.seconds))
        missing, doubled = await asyncio.to_thread(books, home, callers.tally.answered)
        absorbed = home.failed_attempts()
    return Result(plan, callers.tally, storm.befell, absorbed, missing, doubled)


async def steady(callers: Callers, rate: float, seconds: float) -> None:
    """Ask `rate` times a second, however long answers take; return when all have come."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(callers.one())


def books(home: House, answered: set[str]) -> tuple[int, int]:
    """Return how many answered requests have no record, and how many records are there twice."""
    found = home.settled(answered)
    return len(answered - found.keys()), sum(1 for count in found.values() if count != 1)

"""A second attempt beside a slow first one: whoever answers first wins, the other is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import islice
from typing import Any, TypeVar

from routing.engine.breaker import BreakerState
from routing.engine.decide import Need, attempts, likely_tokens
from routing.engine.policy import Candidate
from routing.engine.state import OfferingState
from routing.lanes.job import Job
from routing.lanes.runtime import Runtime
from telemetry.record import HEDGE_LOST, Attempt

T = TypeVar("T")

# Who stands further back would seldom do.
MOST_LOOKED_AT = 8

# Makes one attempt; the flag says whether it may wait for a place.
Try = Callable[[Candidate, bool], Coroutine[Any, Any, T | None]]
Dispose = Callable[[T], Awaitable[None]]


async def raced(
    runtime: Runtime,
    job: Job,
    candidate: Candidate,
    usual_ms: float | None,
    attempt: Try[T],
    dispose: Dispose[T],
) -> T | None:
    """Return what `candidate` gives, or another one if it takes longer than usual; None: nobody.

    The loser's upstream call is ended, and what it cost is on the trail.
    """
    budget = runtime.hedges[job.need.priority]
    if not job.trail.attempts:
        budget.earn(job.hedge_percent)
    if usual_ms is None:
        return await attempt(candidate, True)
    runners = [candidate]
    race: list[asyncio.Future[T | None]] = [asyncio.ensure_future(attempt(candidate, True))]
    winner: asyncio.Future[T | None] | None = None
    try:
        await asyncio.wait(race, timeout=usual_ms / 1000)
        if not race[0].done():
            second = _second(runtime, job, candidate)
            if second is not None and budget.spend():
                job.trail.hedged.add(second.id)
                runners.append(second)
                race.append(asyncio.ensure_future(attempt(second, False)))
        winner = await _first_to_answer(race)
        # From here on who ends has lost; before, the caller has left.
        job.trail.decided = winner is not None
    finally:
        await _end(job, [task for task in race if task is not winner], dispose)
        job.trail.decided = False
    if winner is None:
        return None
    if len(race) > 1:
        _crown(job, runners[race.index(winner)])
    return winner.result()


def _second(runtime: Runtime, job: Job, first: Candidate) -> Candidate | None:
    """Return the next one in order that is loaded and has a place free; hedges wait for nothing."""
    if job.most_attempts is not None and len(job.trail.attempts) + 1 >= job.most_attempts:
        return None
    asked = {f"{a.model}@{a.endpoint}" for a in job.trail.attempts} | {first.id}
    order = attempts(runtime.policy, runtime.state, job.decision, runtime.clock)
    for candidate in islice(order, MOST_LOOKED_AT):
        live = runtime.live(candidate)
        if candidate.id in asked or live is None or not _is_ready(live):
            continue
        if _does(candidate, first, job.need):
            return candidate
    return None


def _is_ready(live: OfferingState) -> bool:
    """Return whether a call would begin at once: no load, no queue, and no probe."""
    closed = live.breaker.state is BreakerState.CLOSED
    return closed and live.loaded and live.endpoint.free_slots > 0


def _does(candidate: Candidate, first: Candidate, need: Need) -> bool:
    """Return whether its answer is as good as was asked for, and both are within the cost limit."""
    if need.model is not None and candidate.model_name != first.model_name:
        return False
    if candidate.rank < min(need.floor, first.rank):
        return False
    if need.cost_limit_nusd is None:
        return True
    bounds = [c.cost_bound_nusd(need.prompt_tokens, need.output_tokens) for c in (candidate, first)]
    return None not in bounds and sum(b or 0 for b in bounds) <= need.cost_limit_nusd


async def _first_to_answer(
    race: list["asyncio.Future[T | None]"],
) -> "asyncio.Future[T | None] | None":
    pending = set(race)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in race:
            if task in done and task.result() is not None:
                return task
    return None


async def _end(job: Job, losers: list["asyncio.Future[T | None]"], dispose: Dispose[T]) -> None:
    for task in losers:
        task.cancel()
    for outcome in await asyncio.gather(*losers, return_exceptions=True):
        # It answered in the same moment.
        if outcome is not None and not isinstance(outcome, BaseException):
            await dispose(outcome)


def _crown(job: Job, winner: Candidate) -> None:
    """Let the trail say who won where both answered in the same moment."""
    trail = job.trail
    trail.answered_by = winner
    for index, attempt in enumerate(trail.attempts):
        mine = (attempt.model, attempt.endpoint) == (winner.model_name, winner.endpoint_name)
        if not attempt.error_type and not mine:
            trail.attempts[index] = Attempt(
                attempt.model, attempt.endpoint, attempt.duration_ms, HEDGE_LOST,
                likely_tokens(job.need),
            )  # fmt: skip

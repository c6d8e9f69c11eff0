"""A second attempt beside a slow first one: whoever answers first wins, the other is cancelled."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from routing.engine.decide import attempts, likely_tokens
from routing.engine.policy import Candidate
from routing.lanes.job import HEDGE_LOST, Job
from routing.lanes.runtime import Runtime
from telemetry.record import Attempt

T = TypeVar("T")

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
    for candidate in attempts(runtime.policy, runtime.state, job.decision, runtime.clock):
        live = runtime.live(candidate)
        if candidate.id in asked or live is None or not live.loaded:
            continue
        if live.endpoint.free_slots > 0:
            return candidate
    return None


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

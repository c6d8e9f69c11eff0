"""A second attempt beside a slow first one: who answers first is heard, the other one ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from routing.engine.durations import Durations
from routing.engine.hedging import second
from routing.engine.policy import Candidate
from routing.engine.state import OfferingState
from routing.lanes.attempt import Turn, begin
from routing.lanes.job import Job
from routing.lanes.runtime import Runtime

# Sooner than this, what is slow may be this process.
LEAST_WAIT_MS = 10.0

T = TypeVar("T")
# Returns an answer, or None if the attempt failed, with the failure on the trail.
Attempt = Callable[[Turn], Awaitable[T | None]]
# Which of an offering's times are those of the attempt.
Times = Callable[[OfferingState], Durations]
Discard = Callable[[T], Awaitable[None]]


def may_hedge(runtime: Runtime, job: Job) -> None:
    """Let a request earn its part of the second attempts, and have one, if its profile says so."""
    priority = job.need.priority
    if percent := runtime.policy.profiles[priority].hedge_percent:
        job.hedges = runtime.hedges[priority]
        job.hedges.earn(percent)


async def attempted(turn: Turn, attempt: Attempt[T], times: Times, discard: Discard[T]) -> T | None:
    """Return what `attempt` makes of the turn, or of a second one beside it.

    `discard` is given an answer that nobody wants any more.
    """
    slow_ms = _slow_ms(turn, times)
    if slow_ms is None:
        return await attempt(turn)
    return await _Race(turn, attempt, times, discard).run(max(slow_ms, LEAST_WAIT_MS) / 1000)


def _slow_ms(turn: Turn, times: Times) -> float | None:
    """Return after how long the attempt is slow; None where no second one may be made."""
    job = turn.job
    if job.hedges is None or job.trail.hedge is not None or not turn.live.loaded:
        return None
    most = job.most_attempts
    if most is not None and len(job.trail.attempts) + 2 > most:
        return None
    return times(turn.live).slow_ms()


class _Race(Generic[T]):
    """Two attempts of one request. The first that commits ends the other at once."""

    def __init__(self, first: Turn, attempt: Attempt[T], times: Times, discard: Discard[T]) -> None:
        self._first, self._attempt, self._times, self._discard = first, attempt, times, discard
        self._turns: list[Turn] = []
        self._join(first)

    async def run(self, wait_s: float) -> T | None:
        """Return the answer of whoever has one first; None if nobody has."""
        first = asyncio.create_task(self._alone())
        tasks = {first}
        try:
            await asyncio.wait(tasks, timeout=wait_s)
            if not first.done() and (candidate := self._second()) is not None:
                tasks.add(asyncio.create_task(self._beside(candidate)))
            winner = await _first_with_answer(tasks)
        except BaseException:
            # The caller left: so do the attempts, even one that has just been heard.
            self._leave(tasks)
            raise
        if winner is None:
            return None
        self._leave(tasks - {winner})
        return winner.result()

    def _join(self, turn: Turn) -> None:
        turn.when_heard = partial(self._heard, turn)
        self._turns.append(turn)

    def _heard(self, winner: Turn) -> None:
        for turn in self._turns:
            if turn is not winner and not turn.over:
                turn.lose()
                took_ms = (turn.ended - turn.started) * 1000
                self._times(turn.live).add_unfinished(took_ms)

    def _second(self) -> Candidate | None:
        """Return whom to ask beside the first, paid for; None where nobody is asked."""
        runtime, job = self._first.runtime, self._first.job
        if job.hedges is None or not job.hedges.spend():
            return None
        asked = {f"{a.model}@{a.endpoint}" for a in job.trail.attempts}
        found = second(
            runtime.policy,
            runtime.state,
            job.decision,
            self._first.candidate,
            asked,
            runtime.clock,
        )
        if found is None:
            self._refund()
        return found

    def _refund(self) -> None:
        if self._first.job.hedges is not None:
            self._first.job.hedges.refund()

    async def _alone(self) -> T | None:
        return await self._attempt(self._first)

    async def _beside(self, candidate: Candidate) -> T | None:
        first = self._first
        turn = await begin(first.runtime, first.job, candidate, at_once=True)
        if turn is None:
            self._refund()
            return None
        first.job.trail.hedge = candidate
        self._join(turn)
        return await self._attempt(turn)

    def _leave(self, tasks: Iterable["asyncio.Task[T | None]"]) -> None:
        """End the attempts without waiting: their connections may take a while to close."""
        ending = self._first.runtime.ending
        for task in tasks:
            task.cancel()
            left = asyncio.create_task(_left(task, self._discard))
            ending.add(left)
            left.add_done_callback(ending.discard)


async def _first_with_answer(
    tasks: Iterable["asyncio.Task[T | None]"],
) -> "asyncio.Task[T | None] | None":
    running = set(tasks)
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.result() is not None:
                return task
    return None


async def _left(task: "asyncio.Task[T | None]", discard: Discard[T]) -> None:
    """Close what came of an attempt after all."""
    with suppress(asyncio.CancelledError):
        if (answer := await task) is not None:
            await discard(answer)

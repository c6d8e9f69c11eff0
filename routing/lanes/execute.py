"""Carry a decision out: attempts in order, under one deadline, until somebody answers.

Two doors: `complete` for whole answers, `open_stream` for streamed ones.
"""

import asyncio

from routing.engine.errors import DeadlineExceeded, ProviderError
from routing.engine.policy import Candidate
from routing.lanes import load_news
from routing.lanes.attempt import Turn, begin
from routing.lanes.flow import Flow, open_flow
from routing.lanes.hedge import raced
from routing.lanes.job import Job, Trail
from routing.lanes.limits import whole_s
from routing.lanes.order import in_order, outcome, worth_asking_again
from routing.lanes.runtime import Runtime
from routing.lanes.stream import HeldStream, LiveStream, Stream
from routing.providers.base import Answer, Piece

__all__ = ["Job", "Stream", "Trail", "complete", "open_stream"]


async def complete(runtime: Runtime, job: Job, *, embed: bool = False) -> Answer:
    """Return the first whole answer any attempt gives.

    Raises AttemptsFailed, DeadlineExceeded, or the RefusedByUpstream that the caller caused.
    """

    async def attempt(candidate: Candidate, patient: bool) -> Answer | None:
        return await _ask(runtime, job, candidate, embed=embed, patient=patient)

    for candidate in in_order(runtime, job):
        for again in (False, True):
            if job.hedge_percent and not again:
                live = runtime.live(candidate)
                usual_ms = live.whole_ms.p95() if live is not None else None
                answer = await raced(runtime, job, candidate, usual_ms, attempt, _drop)
            else:
                answer = await attempt(candidate, True)
            if answer is not None:
                return answer
            if again or not await worth_asking_again(runtime, job, candidate):
                break
    raise outcome(runtime, job)


async def open_stream(runtime: Runtime, job: Job) -> Stream:
    """Return a stream that has reached its commit point; errors as `complete` raises them."""

    async def attempt(candidate: Candidate, patient: bool) -> Flow | None:
        return await open_flow(runtime, job, candidate, patient=patient)

    order = in_order(runtime, job)
    for candidate in order:
        for again in (False, True):
            if job.hedge_percent and not again:
                live = runtime.live(candidate)
                usual_ms = live.first_ms.p95() if live is not None else None
                flow = await raced(runtime, job, candidate, usual_ms, attempt, Flow.close)
            else:
                flow = await attempt(candidate, True)
            if flow is not None and job.commit == "first_token":
                return LiveStream(runtime, job, flow, order)
            if flow is not None and (pieces := await _held(flow)) is not None:
                return HeldStream(flow, pieces)
            if again or not await worth_asking_again(runtime, job, candidate):
                break
    raise outcome(runtime, job)


async def _ask(
    runtime: Runtime, job: Job, candidate: Candidate, *, embed: bool, patient: bool
) -> Answer | None:
    """Make one call; None if it failed, with the failure on the trail."""
    turn = await begin(runtime, job, candidate, patient=patient)
    if turn is None:
        return None
    try:
        provider, call = runtime.provider(candidate), job.call_for(candidate)
        allowed_s = whole_s(candidate, turn.live, job.need)
        async with asyncio.timeout(min(allowed_s, job.deadline - turn.started)):
            answer = await (provider.embed(call) if embed else provider.complete(call))
    except ProviderError as exc:
        turn.fail(exc)
        return None
    except TimeoutError:
        turn.fail(turn.silence(turn.expected_ms()))
        return None
    except BaseException:
        turn.abandon()
        raise
    turn.last = answer
    turn.succeed()
    _learn(turn, answer)
    return answer


async def _drop(answer: Answer) -> None:
    """Nothing is left of a whole answer that came too late."""


def _learn(turn: Turn, answer: Answer) -> None:
    load_news.learn_from_answer(turn.runtime, turn.candidate, answer.load_ms)
    tokens = answer.usage.completion_tokens if answer.usage else 0
    took_ms = (turn.runtime.clock() - turn.started) * 1000 - answer.load_ms
    # A cold start says nothing about the next, warm one.
    turn.runtime.learn(
        turn.live,
        duration_ms=max(0.0, took_ms),
        output_tokens=tokens,
        ttft_ms=None,
        work_ms=answer.work_ms,
    )


async def _held(flow: Flow) -> list[Piece] | None:
    """Return the whole answer in its pieces; None if it broke, with the failure on the trail."""
    pieces: list[Piece] = []
    try:
        while (piece := await flow.next()) is not None:
            pieces.append(piece)
    except (ProviderError, DeadlineExceeded):
        return None
    except BaseException:
        await flow.close()
        raise
    return pieces

"""Carry a decision out: attempts in order, under one deadline, until somebody answers.

Two doors: `complete` for whole answers, `open_stream` for streamed ones.
"""

import asyncio
from collections.abc import Iterator
from functools import partial
from itertools import count
from operator import attrgetter

from routing.engine.errors import DeadlineExceeded, ProviderError
from routing.engine.policy import Candidate
from routing.lanes.attempt import Turn, begin
from routing.lanes.flow import flowing
from routing.lanes.hedge import Attempt, Discard, T, Times, attempted, may_hedge
from routing.lanes.job import Job, Trail
from routing.lanes.limits import whole_s
from routing.lanes.order import in_order, once_more, outcome, worth_asking_again
from routing.lanes.runtime import Runtime
from routing.lanes.stream import HeldStream, LiveStream, Stream
from routing.providers.base import Answer, Piece

__all__ = ["Job", "Stream", "Trail", "complete", "open_stream"]

ANSWER_TIMES: Times = attrgetter("answer_times")
FIRST_TOKEN_TIMES: Times = attrgetter("first_token_times")


async def complete(runtime: Runtime, job: Job, *, embed: bool = False) -> Answer:
    """Return the first whole answer any attempt gives.

    Raises AttemptsFailed, DeadlineExceeded, or the RefusedByUpstream that the caller caused.
    """
    may_hedge(runtime, job)
    ask = partial(_answer, embed=embed)
    for number in count(1):
        order = in_order(runtime, job)
        answer = await _first(runtime, job, order, ask, ANSWER_TIMES, _forget)
        if answer is not None:
            return answer
        if not await once_more(runtime, job, number):
            break
    raise outcome(runtime, job)


async def open_stream(runtime: Runtime, job: Job) -> Stream:
    """Return a stream that has reached its commit point; errors as `complete` raises them."""
    may_hedge(runtime, job)
    at_once = job.commit == "first_token"
    for number in count(1):
        order = in_order(runtime, job)
        live = partial(_live, order=order)
        ask, times = (live, FIRST_TOKEN_TIMES) if at_once else (_held, ANSWER_TIMES)
        stream = await _first(runtime, job, order, ask, times, Stream.close)
        if stream is not None:
            return stream
        if not await once_more(runtime, job, number):
            break
    raise outcome(runtime, job)


async def _live(turn: Turn, *, order: Iterator[Candidate]) -> Stream | None:
    """Return an answer that has begun; None if it broke, with the failure on the trail."""
    flow = await flowing(turn)
    if flow is None:
        return None
    turn.commit()
    return LiveStream(turn.runtime, turn.job, flow, order)


async def _first(
    runtime: Runtime,
    job: Job,
    order: Iterator[Candidate],
    ask: Attempt[T],
    times: Times,
    discard: Discard[T],
) -> T | None:
    """Return what the first of them answers who does, each asked twice where that is of use."""
    for candidate in order:
        for again in (False, True):
            answer = await _try(runtime, job, candidate, ask, times, discard)
            if answer is not None:
                return answer
            if again or not await worth_asking_again(runtime, job, candidate):
                break
    return None


async def _try(
    runtime: Runtime,
    job: Job,
    candidate: Candidate,
    ask: Attempt[T],
    times: Times,
    discard: Discard[T],
) -> T | None:
    """Return what a candidate answers, or whoever is asked beside it; None if neither does."""
    turn = await begin(runtime, job, candidate)
    if turn is None:
        return None
    return await attempted(turn, ask, times, discard)


async def _answer(turn: Turn, *, embed: bool) -> Answer | None:
    """Make one call; None if it failed, with the failure on the trail."""
    runtime, job, candidate = turn.runtime, turn.job, turn.candidate
    turn.unseen_tokens = 0 if embed else job.need.output_tokens
    try:
        provider, call = runtime.provider(candidate), job.call_for(candidate)
        left_s, others = job.deadline - turn.started, job.decision.eligible > 1
        allowed_s = whole_s(candidate, turn.live, job.need, left_s=left_s, others=others)
        turn.call(whole=True)
        async with asyncio.timeout(allowed_s):
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
    answer.usage = turn.believed(answer.usage)
    turn.last = answer
    if not turn.succeed():
        return None
    _learn(turn, answer)
    return answer


async def _forget(answer: Answer) -> None:
    """A whole answer holds nothing open."""


def _learn(turn: Turn, answer: Answer) -> None:
    tokens = answer.usage.completion_tokens if answer.usage else 0
    if not turn.cold:
        turn.live.answer_times.add(turn.took_ms)
    # A cold start says nothing about the next, warm one.
    turn.runtime.learn(
        turn.live,
        duration_ms=max(0.0, turn.took_ms - answer.load_ms),
        output_tokens=tokens,
        ttft_ms=None,
        work_ms=answer.work_ms,
    )


async def _held(turn: Turn) -> Stream | None:
    """Return an answer once it is whole; None if it broke, with the failure on the trail."""
    flow = await flowing(turn)
    if flow is None:
        return None
    pieces: list[Piece] = []
    try:
        while (piece := await flow.next()) is not None:
            pieces.append(piece)
    except (ProviderError, DeadlineExceeded):
        return None
    except BaseException:
        await flow.close()
        raise
    if not turn.heard:
        await flow.close()
        return None
    if not turn.cold:
        turn.live.answer_times.add(turn.took_ms)
    return HeldStream(flow, pieces)

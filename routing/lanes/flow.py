"""The pieces of one upstream's streamed answer, each within its time."""

import asyncio
from collections.abc import AsyncIterator

from routing.engine.bounds import output_cap
from routing.engine.errors import (
    DeadlineExceeded,
    MalformedAnswer,
    ProviderError,
    StreamCut,
    UpstreamTimeout,
)
from routing.engine.need import likely_tokens
from routing.engine.policy import Candidate
from routing.lanes import limits
from routing.lanes.attempt import Turn, begin
from routing.lanes.job import Job
from routing.lanes.runtime import Runtime
from routing.lanes.till import utf8_bytes
from routing.providers.base import Call, Piece

# The last piece may follow the last token that was paid for, and hold nothing new.
CUT_AFTER = 1


class Flow:
    """One streamed answer. What ends it, good or bad, ends its turn."""

    def __init__(self, turn: Turn, pieces: AsyncIterator[Piece]) -> None:
        self.turn = turn
        self.first_token_s = 0.0
        self.queue_ms = turn.live.queue_ms(likely_tokens(turn.job.need))
        self.load_ms = 0.0
        self._pieces = pieces
        self._first: Piece | None = None
        self._finished_at: float | None = None
        self._pieces_told = 0
        self._cut = False

    @property
    def candidate(self) -> Candidate:
        return self.turn.candidate

    async def begin(self) -> None:
        """Wait for the first piece that says anything; raises ProviderError or TimeoutError."""
        turn = self.turn
        allowed_s = limits.first_token_s(turn.live, self.queue_ms / 1000)
        self._first = await self._said(allowed_s)
        if self._first is None:
            name = self.candidate.endpoint_name
            said = f"Endpoint '{name}' ended its stream before saying anything."
            raise StreamCut(name, said)
        self.first_token_s = turn.runtime.clock() - turn.started
        turn.speaks(self.first_token_s * 1000)
        if not turn.cold:
            turn.live.first_token_times.add(self.first_token_s * 1000)

    async def next(self) -> Piece | None:
        """Return the next piece, or None at the end; raises ProviderError or DeadlineExceeded."""
        piece, self._first = self._first, None
        if self._cut:
            self.turn.succeed()
            await self.close()
            return None
        try:
            if piece is None:
                piece = await self._following()
            if piece is not None:
                self._count(piece)
        except ProviderError as exc:
            self.turn.fail(exc)
            await self.close()
            raise
        except DeadlineExceeded:
            self.turn.cut_short()
            raise
        if piece is None:
            self.turn.succeed()
        elif self._outruns(piece):
            # A piece is a token at least: what follows is not paid for.
            self._cut = self.turn.job.trail.cut = True
            return Piece(finish_reason="length")
        return piece

    async def close(self) -> None:
        """End the upstream call, whatever state it is in."""
        # Before any waiting: the caller may leave while the connection is being closed.
        self.turn.abandon()
        closing = getattr(self._pieces, "aclose", None)
        if closing is not None:
            await closing()

    async def _following(self) -> Piece | None:
        """Return what comes next; what breaks after the finish reason breaks nothing."""
        if self._finished_at is not None:
            return await self._afterword(self._finished_at)
        try:
            piece = await self._said(limits.BETWEEN_TOKENS_S)
        except TimeoutError as exc:
            raise self._fell_silent() from exc
        if piece is None:
            name = self.candidate.endpoint_name
            raise StreamCut(name, f"Endpoint '{name}' ended its answer without saying why.")
        return piece

    async def _afterword(self, finished_at: float) -> Piece | None:
        """Return the usage, if it follows within its time; nothing else is heard any more."""
        runtime, job = self.turn.runtime, self.turn.job
        end = min(finished_at + limits.AFTER_FINISH_S, job.deadline)
        try:
            async with asyncio.timeout(end - runtime.clock()):
                async for piece in self._pieces:
                    if piece.usage is not None:
                        return Piece(usage=piece.usage, load_ms=piece.load_ms)
        except (ProviderError, TimeoutError):
            pass
        return None

    async def _said(self, allowed_s: float) -> Piece | None:
        """Return the next piece that says anything; role announcements and thoughts do not.

        Only thoughts are a sign of life. A server may send comments or empty pieces for ever.
        """
        loop, runtime, job = asyncio.get_running_loop(), self.turn.runtime, self.turn.job
        left_s = job.deadline - runtime.clock()
        end = loop.time() + left_s
        async with asyncio.timeout(min(allowed_s, left_s)) as limit:
            async for piece in self._pieces:
                if piece.text or piece.tool_calls or piece.finish_reason:
                    return piece
                if piece.thinking:
                    if self.turn.tab is not None:
                        self.turn.tab.seen = -1  # nobody says how long a thought was
                    limit.reschedule(min(loop.time() + limits.BETWEEN_TOKENS_S, end))
        return None

    def _fell_silent(self) -> ProviderError | DeadlineExceeded:
        job, name = self.turn.job, self.candidate.endpoint_name
        if job.is_late(self.turn.runtime.clock()):
            return DeadlineExceeded(job.deadline_ms)
        return UpstreamTimeout(name, f"Endpoint '{name}' fell silent in the middle of its answer.")

    def _outruns(self, piece: Piece) -> bool:
        """Return True if more came than was asked and is paid for, of an answer that goes on."""
        tab = self.turn.tab
        if tab is None or tab.payers is None:
            return False
        if piece.finish_reason or self._finished_at is not None:
            return False
        self._pieces_told += 1
        return self._pieces_told >= output_cap(self.candidate, self.turn.job.need) + CUT_AFTER

    def _count(self, piece: Piece) -> None:
        piece.usage = self.turn.believed(piece.usage)
        self.turn.chars += len(piece.text)
        for call in piece.tool_calls or ():
            self.turn.chars += len((call.get("function") or {}).get("arguments") or "")
        if (tab := self.turn.tab) is not None and tab.seen >= 0:
            tab.seen += utf8_bytes(piece.text)
            for call in piece.tool_calls or ():
                tab.seen += len(repr(call))
        self.load_ms = piece.load_ms or self.load_ms
        if piece.waited_ms is not None:
            self.turn.last = piece
        if self._finished_at is None and piece.finish_reason:
            self._finished_at = self.turn.runtime.clock()
        if self.turn.chars > limits.MAX_ANSWER_CHARS:
            name = self.candidate.endpoint_name
            raise MalformedAnswer(name, f"Endpoint '{name}' sends more than any answer is long.")


async def open_flow(
    runtime: Runtime, job: Job, candidate: Candidate, call: Call | None = None
) -> Flow | None:
    """Return a streamed answer that has begun; None if none did, with the failure on the trail."""
    more = utf8_bytes(call.prefill) if call is not None else 0
    turn = await begin(runtime, job, candidate, more_prompt=more)
    return None if turn is None else await flowing(turn, call)


async def flowing(turn: Turn, call: Call | None = None) -> Flow | None:
    """The same for an attempt that may call its upstream now."""
    flow: Flow | None = None
    try:
        asked = call or turn.job.call_for(turn.candidate)
        flow = Flow(turn, turn.runtime.provider(turn.candidate).stream(asked))
        turn.call(whole=False)
        await flow.begin()
    except ProviderError as exc:
        turn.fail(exc)
    except TimeoutError:
        queue_ms = flow.queue_ms if flow is not None else 0.0
        turn.fail(turn.silence(turn.live.ttft_ms + queue_ms))
    except BaseException:
        turn.abandon()
        raise
    finally:
        if flow is not None and turn.over:
            await flow.close()
    return None if turn.over else flow

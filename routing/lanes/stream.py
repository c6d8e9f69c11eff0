"""A streamed answer past its commit point, whoever it comes from."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator

from msgspec.structs import replace

from routing.engine.errors import AnswerDiverged, DeadlineExceeded, ProviderError
from routing.engine.policy import Candidate
from routing.lanes.continuation import Echo, Retrace, continuing, heirs
from routing.lanes.flow import Flow, open_flow
from routing.lanes.job import Job
from routing.lanes.order import is_over
from routing.lanes.runtime import Runtime
from routing.providers.base import Call, Piece

# Other models hardly ever begin with the same words; more of them only cost time.
MOST_DIVERGENCES = 2
# Each one calls another model with the whole question.
MOST_TAKEOVERS = 3


class Stream(ABC):
    """What the caller is sent. `candidate` is who answers: it changes when somebody takes over."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._prefilled = False

    @property
    def candidate(self) -> Candidate:
        return self._flow.candidate

    @abstractmethod
    def pieces(self) -> AsyncIterator[Piece]:
        """Yield every piece, the first one included; raises ProviderError or DeadlineExceeded."""

    async def close(self) -> None:
        """End the upstream call, whatever state it is in."""
        await self._flow.close()

    def learn(self, output_tokens: int) -> None:
        """Let the averages learn from the finished answer."""
        if self._prefilled:
            return  # its time is that of the second half only
        flow, turn = self._flow, self._flow.turn
        # A cold start says nothing about the next, warm one.
        took_ms = (turn.ended - turn.started) * 1000 - flow.load_ms
        ttft_ms = max(0.0, flow.first_token_s * 1000 - flow.load_ms)
        turn.runtime.learn(
            turn.live, duration_ms=max(0.0, took_ms), output_tokens=output_tokens, ttft_ms=ttft_ms
        )


class HeldStream(Stream):
    """An answer that was held back until it was whole: nothing can happen to it any more."""

    def __init__(self, flow: Flow, pieces: list[Piece]) -> None:
        super().__init__(flow)
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[Piece]:
        for piece in self._pieces:
            yield piece


class LiveStream(Stream):
    """An answer that is passed on as it comes.

    Where its upstream fails, somebody else goes on from what was released: by an answer that
    begins with exactly that, or else by a model that accepts it as its own beginning. Where
    nobody can, iterating raises what the upstream met.
    """

    def __init__(self, runtime: Runtime, job: Job, flow: Flow, order: Iterator[Candidate]) -> None:
        super().__init__(flow)
        self._runtime, self._job, self._order = runtime, job, order
        self._released: list[str] = []
        self._called_tools = False
        self._divergences = self._takeovers = 0

    async def pieces(self) -> AsyncIterator[Piece]:
        piece = await self._next()
        while piece is not None:
            self._note(piece)
            yield piece
            piece = await self._next()

    async def _next(self) -> Piece | None:
        try:
            piece = await self._flow.next()
        except ProviderError as exc:
            piece = await self._taken_over(exc)
        if piece is not None and piece.usage is not None and self._prefilled:
            # It counted the second half only.
            return replace(piece, usage=None)
        return piece

    def _note(self, piece: Piece) -> None:
        if piece.text:
            self._released.append(piece.text)
        self._called_tools = self._called_tools or bool(piece.tool_calls)

    async def _taken_over(self, error: ProviderError) -> Piece | None:
        """Return the first new piece of whoever goes on; raises `error` where nobody does."""
        self._takeovers += 1
        # The rest of another tool call would make one that nobody meant.
        if self._called_tools or self._takeovers > MOST_TAKEOVERS:
            raise error
        released = "".join(self._released)
        for candidate in heirs(self._order, self._flow.candidate, error):
            if is_over(self._runtime, self._job):
                break
            if (piece := await self._from(candidate, released)) is not None:
                self._released = [released]
                return piece
        if self._job.is_late(self._runtime.clock()):
            raise DeadlineExceeded(self._job.deadline_ms) from error
        raise error

    async def _from(self, candidate: Candidate, released: str) -> Piece | None:
        """Return the first new piece of a candidate; None if it does not go on."""
        if self._divergences < MOST_DIVERGENCES:
            before = self._divergences
            self._prefilled = False
            call = self._job.call_for(candidate)
            retrace = Retrace(released, candidate.endpoint_name)
            piece = await self._first_new(candidate, call, retrace)
            if piece is not None or self._divergences == before:
                return piece
        if not candidate.model.accepts_prefill or is_over(self._runtime, self._job):
            return None
        following = continuing(self._job.call_for(candidate), released)
        if following is None:
            return None
        self._prefilled = True
        return await self._first_new(candidate, following, Echo(released, candidate.endpoint_name))

    async def _first_new(self, candidate: Candidate, call: Call, past: Retrace) -> Piece | None:
        """Return the first piece beyond the released text; None if there is none."""
        flow = await open_flow(self._runtime, self._job, candidate, call)
        if flow is None:
            return None
        self._flow = flow
        try:
            while (piece := await flow.next()) is not None:
                if (new := past.take(piece)) is not None:
                    return new
        except AnswerDiverged as exc:
            self._divergences += 1
            flow.turn.fail(exc)
            await flow.close()
        except ProviderError:
            pass  # on the trail already
        return None

"""Generated answers: whole, or streamed at the model's pace, with the faults of a stream."""

import asyncio
import time
from collections.abc import Iterator
from typing import Protocol

from routing.simulator.course import Course, Errors, Job, Simulator, Times, send_whole
from routing.simulator.text import Answer, Wish, compose
from routing.simulator.wire import Call

# Shorter sleeps cost more than they wait; the pace is kept by the clock, so none is lost.
SHORTEST_SLEEP_S = 0.001


class Format(Errors, Protocol):
    """How one endpoint writes a generated answer; a new one for every request."""

    content_type: bytes

    def opening(self) -> bytes: ...
    def token(self, text: str, *, thinking: bool) -> bytes: ...
    def ending(self, job: Job, answer: Answer, times: Times) -> bytes: ...
    def whole(self, job: Job, answer: Answer, times: Times, *, ended: bool) -> bytes: ...


class Generation(Course):
    """A job that generates text."""

    def __init__(
        self,
        sim: Simulator,
        call: Call,
        job: Job,
        form: Format,
        *,
        wish: Wish,
        stream: bool,
    ) -> None:
        super().__init__(sim, call, job, form)
        self._form = form
        self._wish = wish
        self._stream_asked = stream

    async def _answer(self) -> None:
        answer = compose(self._wish)
        if not self._stream_asked:
            await self._whole(answer)
        elif self.sim.instant and self.fault is None:
            await self._stream_at_once(answer)
        else:
            await self._stream(answer)

    async def _whole(self, answer: Answer) -> None:
        await self._keep_pace(answer.count)
        ended = self.fault is None or self.fault.kind != "no_end"
        body = self._form.whole(self.job, answer, self.times(), ended=ended)
        await send_whole(self.call, body, self.fault, self._form)

    async def _stream_at_once(self, answer: Answer) -> None:
        await self.call.start(200, self._form.content_type)
        parts = [self._form.opening(), *self._lines(answer)]
        parts.append(self._form.ending(self.job, answer, self.times()))
        await self.call.finish(b"".join(parts))

    async def _stream(self, answer: Answer) -> None:
        await self.call.start(200, self._form.content_type)
        if opening := self._form.opening():
            await self.call.write(opening)
        strike_at = self._strike_at(answer)
        for index, line in enumerate(self._lines(answer)):
            if index == strike_at:
                break
            await self._keep_pace(index + 1)
            await self.call.write(line)
        if strike_at is not None:
            await self._fail_inside()
            return
        # Calls have no lines of their own; they come with the ending.
        await self._keep_pace(answer.count)
        await self.call.finish(self._form.ending(self.job, answer, self.times()))

    def _lines(self, answer: Answer) -> Iterator[bytes]:
        for text in answer.thinking:
            yield self._form.token(text, thinking=True)
        for text in answer.tokens:
            yield self._form.token(text, thinking=False)

    def _strike_at(self, answer: Answer) -> int | None:
        """Return how many tokens precede the fault; an answer may be shorter than that."""
        if self.fault is None:
            return None
        return answer.count if self.fault.kind == "no_end" else self.fault.after_tokens

    async def _fail_inside(self) -> None:
        fault, call = self.fault, self.call
        if fault is None or fault.kind == "no_end":
            await call.finish()
        elif fault.kind == "silence":
            await call.fall_silent()
        elif fault.kind == "reset":
            await call.reset()
        elif fault.kind == "error_line":
            await call.finish(self._form.error_line(fault.message))
        elif fault.kind == "malformed_json":
            await call.finish(self._form.token("?", thinking=False).rstrip()[:-3] + b"\n\n")
        else:
            # A stream has no content-length to fall short of: short_body is a cut here.
            await call.cut()

    async def _keep_pace(self, tokens: int) -> None:
        if self.sim.instant:
            return
        due_s = tokens / (self.job.model.tokens_per_s * self.sim.speed)
        ahead_s = due_s - (time.perf_counter_ns() - self.read_ns) / 1e9
        if ahead_s >= SHORTEST_SLEEP_S:
            await asyncio.sleep(ahead_s)

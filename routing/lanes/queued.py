"""What a streaming caller is told while it waits for a place: a comment, or an event.

The answer's status is sent with the first of them, so nobody is told of a wait that is soon over.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from routing.engine.errors import RoutingError
from routing.lanes.exchange import Exchange
from routing.lanes.problems import Failure, failure_of
from routing.lanes.reply import SSE_TYPE, Reply
from routing.lanes.stream import Stream
from routing.lanes.telling import Telling

# A shorter wait is not worth giving up the answer's status for.
TOLD_AFTER_S = 0.25
# Proxies close what is silent; and the position changes.
TOLD_EVERY_S = 2.0

Note = Callable[[int, int], bytes]  # of position and expected wait in ms


def comment(position: int, expected_ms: int) -> bytes:
    """Return a line of server-sent events that every client ignores and a curious one reads."""
    return f": queued position={position} expected_wait_ms={expected_ms}\n\n".encode()


async def opened_soon(opening: asyncio.Task[Stream], exchange: Exchange) -> bool:
    """Return True once the stream is open or has failed, False if it waits for long."""
    try:
        while True:
            done, _ = await asyncio.wait((opening,), timeout=TOLD_AFTER_S)
            if done or exchange.trail.waiting is not None:
                return bool(done)
    except asyncio.CancelledError:
        await _end(opening)
        raise


class Queued:
    """The events of an answer that is waited for; `run` or `close` ends it."""

    def __init__(
        self,
        exchange: Exchange,
        opening: asyncio.Task[Stream],
        *,
        note: Note,
        tell: Callable[[Stream], Telling],
        breaking: Callable[[Failure], bytes],
    ) -> None:
        self._exchange, self._opening = exchange, opening
        self._note, self._tell, self._breaking = note, tell, breaking
        self._told = False

    def reply(self, headers: dict[str, str]) -> Reply:
        return Reply(
            200,
            content_type=SSE_TYPE,
            headers=headers,
            stream=self.run(),
            on_close=self.close,
            succeeded=lambda: self._exchange.succeeded,
        )

    async def run(self) -> AsyncIterator[bytes]:
        """Yield news of the wait, then the answer's own events."""
        try:
            while not self._opening.done():
                if (waiting := self._exchange.trail.waiting) is not None:
                    yield self._note(*waiting)
                await asyncio.wait((self._opening,), timeout=TOLD_EVERY_S)
            telling = self._tell(self._opening.result())
        except RoutingError as exc:
            failure = failure_of(exc)
            self._exchange.fail(failure)
            yield self._breaking(failure)
            return
        self._told = True
        async for event in telling.run():
            yield event

    async def close(self) -> None:
        """End what its caller left before the answer began; afterwards nothing is left to do."""
        if not self._told:
            self._exchange.caller_left()
            await _end(self._opening)


async def _end(opening: asyncio.Task[Stream]) -> None:
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError, RoutingError):
        await (await opening).close()

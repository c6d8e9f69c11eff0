"""uvicorn's HTTP protocol, writing what one turn of the event loop gives it in one go.

uvicorn writes the head and the body of an answer apart: two system calls and two packets for an
answer that fits one, which was a tenth of a select-model call. It also looks at each header of
each answer, 442 of the 7,526 steps of a route-request with limits (`python -m benchmarks.steps` at
`e63586a`): who has a whole answer at hand may write it at once.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from routing.lanes.reply import WHOLE


class CorkedTransport:
    """A transport that holds writes back until the current turn of the loop is over."""

    __slots__ = ("_loop", "_parts", "_transport", "get_extra_info", "is_closing")

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        if not data:
            return
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Close once everything that was given is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        # Whatever else a transport can do, about its own buffer included, is as it was.
        return getattr(self._transport, name)


class CorkedHttp(HttpToolsProtocol):
    """Serves HTTP as uvicorn does, over a corked transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # One that is not in ASGI's own list.
        self.scope["extensions"] = OFFERED  # type: ignore[typeddict-item]


def whole(send: Any, status: int, head: bytes, body: bytes) -> bool:
    """Write an answer whose header lines are `head`, its length included; the end of the request.

    Returns False where it must be sent in messages: to a client that does not read as fast as it
    is written to, through middleware, or where answers are logged. Not for HEAD, nor for a status
    that has no body.
    """
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or cycle.response_started:
        return False
    if cycle.flow.write_paused or cycle.access_log:
        return False
    if cycle.disconnected:
        return True
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
    dated = _dated.lines(cycle.default_headers)
    cycle.transport.write(b"".join((STATUS_LINE[status], dated, head, end, body)))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


class _Dated:
    """uvicorn's own headers as lines. It makes a new list of them each second."""

    def __init__(self) -> None:
        self._of: list[tuple[bytes, bytes]] = []
        self._lines = b""

    def lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self._of:
            self._of = headers
            self._lines = b"".join([b"%s: %s\r\n" % header for header in headers])
        return self._lines


_dated = _Dated()
OFFERED = {WHOLE: whole}

"""uvicorn's HTTP protocol, writing what one turn of the event loop gives it in one go.

uvicorn writes the head and the body of an answer apart: two system calls and two packets for an
answer that fits one, which was a tenth of a select-model call.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


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

"""One HTTP exchange over bare ASGI, with the few ways of ending it badly that faults need."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

JSON = b"application/json; charset=utf-8"
NDJSON = b"application/x-ndjson"
SSE = b"text/event-stream"
PLAIN = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"

# Where `server.Protocol` leaves the connection, which ASGI itself does not show.
TRANSPORT_KEY = "simulator.transport"
MAX_BODY_BYTES = 64 * 2**20

Headers = Sequence[tuple[bytes, bytes]]
encode = msgspec.json.encode
# Stands for a text in a sample that `gaps` cuts up; no client can send it as a model's name.
GAP = "\0"


class BodyTooLarge(Exception):
    """Raised when a request body exceeds MAX_BODY_BYTES."""


class ClientGone(Exception):
    """Raised when the client closed the connection before its request was read."""


def gaps(sample: Any) -> list[bytes]:
    """Return the sample's JSON around its gaps: what all lines of a stream have in common."""
    return encode(sample).split(encode(GAP))


class Call:
    """The request and its response; every response says that it is simulated."""

    __slots__ = ("_receive", "_send", "broken", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.broken = False  # the connection was ended on purpose
        self._receive = receive
        self._send = send

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    async def body(self) -> bytes:
        message = await self._receive()
        parts = [message.get("body", b"")]
        size = len(parts[0])
        while message.get("more_body"):
            message = await self._receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > MAX_BODY_BYTES:
                raise BodyTooLarge
        if message["type"] == "http.disconnect":
            raise ClientGone
        return b"".join(parts)

    async def fall_silent(self) -> None:
        """Say nothing more; the watcher of the connection cancels this when the client leaves."""
        await asyncio.get_running_loop().create_future()

    async def wait_until_gone(self) -> None:
        """Return when the client closes the connection; only to be used after `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(
        self, status: int, content_type: bytes, length: int | None = None, more: Headers = ()
    ) -> None:
        headers = [(b"content-type", content_type), (b"x-simulated", b"true"), *more]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data})

    async def reply(
        self, status: int, body: bytes, content_type: bytes = JSON, more: Headers = ()
    ) -> None:
        await self.start(status, content_type, len(body), more)
        await self.finish(b"" if self.scope["method"] == "HEAD" else body)

    async def reply_json(self, status: int, value: Any) -> None:
        await self.reply(status, encode(value))

    async def cut(self) -> None:
        """Close the connection after what was written, without a proper end."""
        transport = self.scope.get("state", {}).get(TRANSPORT_KEY)
        # Under another server there is no transport; it closes when nothing more comes.
        if transport is not None:
            self.broken = True
            transport.close()
            await self.wait_until_gone()

    async def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        transport = self.scope.get("state", {}).get(TRANSPORT_KEY)
        if transport is None:
            return
        # What was written has to reach the client first: a reset discards what is on its way.
        await asyncio.sleep(0.02)
        peer = transport.get_extra_info("socket")
        # Closing a socket with zero linger time sends RST; a duplicate shares the setting.
        with contextlib.closing(socket.socket(fileno=os.dup(peer.fileno()))) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.broken = True
        transport.abort()
        await self.wait_until_gone()

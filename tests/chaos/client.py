"""A small HTTP client that notices everything: how an answer ended, and when each part came."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools


@dataclass(slots=True)
class Exchange:
    """One request as its caller saw it; `whole` only if the answer ended as HTTP says it does."""

    status: int = 0  # 0: no answer at all
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    timed_out: bool = False
    took_s: float = 0.0
    part_at_s: list[float] = field(default_factory=list)

    def json(self) -> Any:
        """Return the body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def events(self) -> list[str]:
        """Return the data of each complete server-sent event."""
        blocks = self.body.decode(errors="replace").split("\n\n")[:-1]
        lines = (line for block in blocks for line in block.splitlines())
        return [line[5:].strip() for line in lines if line.startswith("data:")]


class _Conversation(asyncio.Protocol):
    """One request on one connection."""

    def __init__(self, request: bytes, exchange: Exchange) -> None:
        self._request = request
        self._exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._exchange.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._exchange.part_at_s.append(time.monotonic())
        self._exchange.body += body

    def on_message_complete(self) -> None:
        self._exchange.whole = True
        self._end()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


async def post(url: str, body: dict[str, Any], limit_s: float) -> Exchange:
    """Return what came of a JSON POST; it never raises, and never takes longer than the limit."""
    return await send("POST", url, json.dumps(body).encode(), limit_s)


async def get(url: str, limit_s: float) -> Exchange:
    return await send("GET", url, b"", limit_s)


async def send(method: str, url: str, body: bytes, limit_s: float) -> Exchange:
    """Return what came of a request; it never raises, and never takes longer than the limit."""
    exchange = Exchange()
    started = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            await _converse(method, url, body, exchange)
    except TimeoutError:
        exchange.timed_out = True
    except OSError:
        # Refused or reset: `status` and `whole` say what there was of an answer.
        pass
    exchange.took_s = time.monotonic() - started
    return exchange


async def _converse(method: str, url: str, body: bytes, exchange: Exchange) -> None:
    parts = urlsplit(url)
    head = (
        f"{method} {parts.path or '/'} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    transport, protocol = await asyncio.get_running_loop().create_connection(
        lambda: _Conversation(head.encode() + body, exchange),
        parts.hostname or "127.0.0.1",
        parts.port or 80,
    )
    try:
        await protocol.over
    finally:
        transport.abort()

"""HTTP/1.1 to one origin over asyncio and httptools: keep-alive, streaming, cancellable anywhere.

A cancelled call closes its connection at once, which is how an inference server learns that nobody
waits any more. docs/adr/0006-upstream-http.md says why no client library does this work.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S = 5.0
# Idle connections are dropped before common servers do (75 s in nginx, 60 s elsewhere).
IDLE_S = 30.0
# A kept connection that breaks this soon after its next request was closed while it lay idle.
STALE_S = 1.0
# How long the end of an answer, whose last word has been read, may take to arrive.
DRAIN_S = 1.0
MAX_HEAD_BYTES = 256 * 1024
MAX_WHOLE_BYTES = 64 * 1024 * 1024
# A reader slower than the model must not fill this process's memory.
HIGH_WATER_BYTES = 256 * 1024


class HttpError(Exception):
    """Base of what can go wrong on one connection."""


class NoConnection(HttpError):
    """Raised when there is no connection, or it broke before the answer began."""


class Unreached(NoConnection):
    """Raised when there was no connection at all: nothing was sent."""


class Broken(HttpError):
    """Raised when the connection broke in the middle of the answer."""


class NotHttp(HttpError):
    """Raised when the bytes are no HTTP answer, or more than any answer has."""


class Connection(asyncio.Protocol):
    """One connection; carries one exchange at a time."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}  # names in lower case; of several the last
        self.done = True  # is the answer complete?
        self.closed = False
        self.idle_since: float | None = None  # None: it has not carried an exchange yet
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._on_end: Callable[[Connection], None] | None = None
        self._drain_timer: asyncio.TimerHandle | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._error: HttpError | None = None
        self._whole = self._head = self._kept_alive = self._paused = False
        self._head_bytes = 0

    async def exchange(self, request: bytes, *, whole: bool) -> None:
        """Send a request; return when its answer is there, or only its head unless `whole`."""
        transport = self._transport
        if transport is None or self.closed:
            raise NoConnection("the connection was closed")
        self._whole = whole
        self.done = self._head = self._kept_alive = False
        self.headers, self._head_bytes = {}, 0
        self._parser = httptools.HttpResponseParser(self)
        transport.write(request)
        while not (self.done if whole else self._head):
            await self._wait()

    async def read(self) -> bytes | None:
        """Return what has arrived of the body since the last time, or None at its end."""
        while not self._chunks:
            if self.done:
                return None
            await self._wait()
        return self.take()

    def take(self) -> bytes:
        """Return the part of the body that is there."""
        chunks, self._chunks, self._size = self._chunks, [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def leave(self, on_end: Callable[["Connection"], None]) -> None:
        """Drop the little that is still to come, then hand the connection to `on_end`."""
        self.take()
        if self.done or self.closed:
            on_end(self)
            return
        self._on_end = on_end
        self._drain_timer = self.loop.call_later(DRAIN_S, self.abort)

    def abort(self) -> None:
        """Close at once; whatever is under way on it is over."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def reusable(self) -> bool:
        if self.closed or not self._kept_alive or self._transport is None:
            return False
        # An answer may come before the whole question was sent; the rest of it would follow.
        return not self._transport.get_write_buffer_size()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self.done or not self._whole or self._error is not None:
            waiter.set_result(None)

    def _fail(self, error: HttpError) -> None:
        self._error = self._error or error
        self.abort()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.done or self._parser is None:
            self.abort()  # nobody asked
            return
        if not self._head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(NotHttp())
        if self._head_bytes > MAX_HEAD_BYTES and not self._head:
            self._fail(NotHttp())
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._parser = None
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        framed = b"content-length" in self.headers or b"transfer-encoding" in self.headers
        if self._head and not framed and exc is None and self._error is None:
            self.done = True  # such an answer ends with its connection
        elif not self.done and self._error is None:
            early = "it closed the connection before it answered"
            self._error = Broken() if self._head else NoConnection(early)
        self._wake()

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self.done:
            raise NotHttp  # a second answer to one question

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code() if self._parser is not None else 0
        # 100 Continue and its like announce the answer that follows.
        self._head = self.status >= 200

    def on_body(self, body: bytes) -> None:
        if self._on_end is not None:
            return
        self._chunks.append(body)
        self._size += len(body)
        if self._whole:
            if self._size > MAX_WHOLE_BYTES:
                self._fail(NotHttp())
        elif self._size > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self._head:
            self.headers = {}
            return
        if self._error is not None:
            return  # too large, though it came to its end
        self.done = True
        self._kept_alive = self._parser is not None and self._parser.should_keep_alive()
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            if self._drain_timer is not None:
                self._drain_timer.cancel()
            on_end(self)


class Origin:
    """Connections to the server that a base URL names. Follows no redirect, uses no proxy."""

    def __init__(self, base_url: str, headers: dict[str, str]) -> None:
        """Raises ValueError where the URL or a header cannot be used."""
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{base_url!r} is no http or https URL")
        self._host = url.hostname
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._port = url.port or (443 if self._tls else 80)
        self._prefix = url.path.rstrip("/")
        self._fixed = _lines({"host": url.netloc.rpartition("@")[2], **headers})
        self._heads: dict[str, bytes] = {}
        self._idle: list[Connection] = []
        self._closed = False

    async def post(self, path: str, body: bytes, *, whole: bool) -> Connection:
        """Return a connection that holds the answer, or only its head unless `whole`.

        The caller gives it to `put_back`, or aborts it. Raises HttpError.
        """
        return await self._send(self._head(path) + b"%d\r\n\r\n" % len(body) + body, whole=whole)

    async def get(self, path: str) -> Connection:
        """Return a connection that holds the whole answer; otherwise as `post`."""
        head = self._head(path).replace(b"POST", b"GET", 1)
        return await self._send(head + b"0\r\n\r\n", whole=True)

    async def _send(self, request: bytes, *, whole: bool) -> Connection:
        while True:
            connection = self._reuse() or await self._connect()
            sent_at = connection.loop.time()
            try:
                await connection.exchange(request, whole=whole)
            except NoConnection:
                connection.abort()
                fresh = connection.idle_since is None
                if fresh or connection.loop.time() - sent_at > STALE_S:
                    raise
            except BaseException:
                connection.abort()
                raise
            else:
                return connection

    def put_back(self, connection: Connection) -> None:
        """Keep the connection for another exchange, if it is good for one."""
        if self._closed or not connection.reusable:
            connection.abort()
            return
        now = connection.idle_since = connection.loop.time()
        self._idle.append(connection)
        while self._idle[0].closed or now - (self._idle[0].idle_since or now) > IDLE_S:
            self._idle.pop(0).abort()

    def close(self) -> None:
        """Close what is idle now, and the others when they are given back."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _reuse(self) -> Connection | None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            fresh = connection.idle_since is not None and connection.idle_since > oldest
            if fresh and not connection.closed and connection.loop is loop:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    Connection, self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError, UnicodeError) as exc:
            raise Unreached(_reason(exc)) from exc
        return connection

    def _head(self, path: str) -> bytes:
        head = self._heads.get(path)
        if head is None:
            line = f"POST {self._prefix}{path} HTTP/1.1\r\n".encode("ascii")
            head = self._heads[path] = line + self._fixed + b"content-length: "
        return head


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate was refused, {exc.verify_message}"
    if isinstance(exc, TimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_S:g} s"
    return getattr(exc, "strerror", None) or type(exc).__name__


def _lines(headers: dict[str, str]) -> bytes:
    """Return header lines; raises ValueError for a value that would make more of them."""
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the header {name} cannot hold its value")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("ascii")

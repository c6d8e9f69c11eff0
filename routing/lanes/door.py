"""The ASGI door of the lanes: reads the request, calls the handler, sends the reply."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from routing.engine.errors import NotReady, RoutingError
from routing.lanes.contracts import ProblemField
from routing.lanes.problems import BadRequest, failure_of, internal_error
from routing.lanes.reply import WHOLE, Reply
from routing.lanes.runtime import Runtime
from routing.lanes.table import BY_ROUTE, Lane

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES = 16 * 1024 * 1024
# Most answers are sooner than this; only later ones pay for a watch on their caller.
WATCH_AFTER_S = 0.1
MAX_HOSTS_REMEMBERED = 1000


class LaneDoor:
    """Answers the lanes' paths for JSON callers; everything else is Django's."""

    def __init__(
        self, runtime: Callable[[], Runtime | None], host_allowed: Callable[[str], bool]
    ) -> None:
        self._runtime = runtime
        self._host_allowed = host_allowed
        self._hosts: dict[bytes, bool] = {}

    def lane_for(self, scope: Scope) -> Lane | None:
        """Return the lane that takes this request, or None if Django does.

        A browser that asks for HTML is shown DRF's page at the same path.
        """
        lane = BY_ROUTE.get((scope["method"], scope["path"]))
        if lane is None:
            return None
        for name, value in scope["headers"]:
            if name == b"accept":
                return None if b"text/html" in value else lane
        return lane

    async def __call__(self, lane: Lane, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._reply(lane, scope, receive)
        except RoutingError as exc:
            reply = lane.error_shape(failure_of(exc), None)
        except CallerLeft:
            return
        except Exception:
            logger.exception("%s failed", lane.path)
            reply = lane.error_shape(internal_error(), None)
        await answer(reply, scope, receive, send)

    async def _reply(self, lane: Lane, scope: Scope, receive: Receive) -> Reply:
        key, authorization = self._check(lane, scope)
        runtime = self._runtime()
        if runtime is None:
            raise NotReady("The service is starting; try again in a moment.")
        # Before the body is read: a stranger's is not worth the memory.
        caller = runtime.identify(authorization)
        body = await _body(receive) if lane.request is not None else b""
        with _CallerWatch(receive):
            return await lane.answer(runtime, body, key, caller)

    def _check(self, lane: Lane, scope: Scope) -> tuple[bytes, bytes | None]:
        """Refuse what must not come in; return Idempotency-Key and Authorization, if given."""
        content_type = host = key = b""
        authorization: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"host":
                host = value
            elif name == b"content-length" and len(value) > 7:
                _check_length(value)
            elif name == b"idempotency-key":
                # An empty one is refused rather than taken for none.
                key = value or b" "
            elif name == b"authorization":
                # Sent twice, neither is believed.
                authorization = value if authorization is None else authorization + b"," + value
        if not self._hosts.get(host) and not self._ask_host(host):
            raise BadRequest(
                "This Host header is not allowed; add the name to ORCHESTRA_ALLOWED_HOSTS.",
                code="host_not_allowed",
            )
        if lane.request is not None:
            require_json(content_type)
        return key, authorization

    def _ask_host(self, host: bytes) -> bool:
        allowed = self._host_allowed(host.decode("latin-1"))
        if allowed and len(self._hosts) < MAX_HOSTS_REMEMBERED:
            self._hosts[host] = True
        return allowed


class CallerLeft(Exception):
    """Raised inside the door when the caller closed the connection before the answer."""


class _CallerWatch:
    """Cancels the handler when its caller leaves; costs a timer until WATCH_AFTER_S have passed."""

    __slots__ = ("_left", "_receive", "_task", "_timer", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False
        self._watcher: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer = loop.call_later(WATCH_AFTER_S, self._start)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, exc: Any, traceback: Any) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._left and kind is asyncio.CancelledError:
            raise CallerLeft from exc

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        if self._task is not None:
            self._task.cancel()


async def _body(receive: Receive) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerLeft
    body: bytes = message.get("body", b"")
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    if not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise _too_large()
    return b"".join(parts)


def _check_length(value: bytes) -> None:
    # More than twenty digits are refused before Python is asked to make a number of them.
    if value.isdigit() and (len(value) > 20 or int(value) > MAX_BODY_BYTES):
        raise _too_large()


def _too_large() -> BadRequest:
    limit = MAX_BODY_BYTES // (1024 * 1024)
    return BadRequest(
        f"The body is larger than {limit} MiB; shorten the prompt.",
        code="body_too_large",
        status=413,
    )


def require_json(content_type: bytes) -> None:
    """Raise BadRequest unless it is application/json or a +json type, with any parameters."""
    if content_type == b"application/json":
        return
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"application/json" or (
        kind.startswith(b"application/") and kind.endswith(b"+json")
    ):
        return
    one = ProblemField("", "The body is not declared as JSON.", "Set its Content-Type.")
    raise BadRequest(
        "Send JSON with the header 'Content-Type: application/json'.",
        fields=(one,),
        code="unsupported_media_type",
        status=415,
    )


async def answer(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a reply: at once where it is whole and the server can, else in messages."""
    if reply.stream is None and WHOLE in scope.get("extensions", ()):
        head = reply.head()
        if head is not None and scope["extensions"][WHOLE](send, reply.status, head, reply.body):
            return
    headers = [(b"content-type", reply.content_type.encode())]
    headers += [(k.encode(), v.encode("latin-1", "replace")) for k, v in reply.all_headers.items()]
    if reply.stream is None:
        headers.append((b"content-length", b"%d" % len(reply.body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        return
    headers += [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    try:
        await _send_stream(reply, reply.stream, start, receive, send)
    except CallerLeft:
        return
    except RoutingError as exc:
        # Too late to tell the caller, who sees a stream without its end.
        logger.error("A stream was cut off: %s", exc)


async def _send_stream(
    reply: Reply, stream: AsyncIterator[bytes], start: Message, receive: Receive, send: Send
) -> None:
    try:
        with _CallerWatch(receive):
            await send(start)
            async for chunk in stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        await reply.close()
    await send({"type": "http.response.body", "body": b""})

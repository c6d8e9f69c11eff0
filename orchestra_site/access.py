"""Who may come in, for all that Django and Channels answer; the lanes' door sees to its own.

Nothing is open unless it is named here. Where keys are required, a valid API key or an admin's
session is asked for; where they are not, a key that is sent must be valid all the same.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import async_to_sync
from channels.auth import AuthMiddlewareStack  # type: ignore[import-untyped]
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from routing import plane
from routing.api.problems import refusal
from routing.engine.callers import ANONYMOUS, Caller
from routing.engine.errors import RoutingError, Unidentified
from routing.lanes.problems import failure_of

# The admin signs people in itself, and its pages need their styles before that.
OPEN = ("/admin/", "/static/")
# Pages for people, who are shown where to sign in.
PAGES = ("/", "/admin", "/dashboard")
NOT_SIGNED_IN = 4401

GetResponse = Callable[[HttpRequest], HttpResponseBase]
Application = Callable[[Any, Any, Any], Awaitable[None]]


class Access:
    """Middleware: finds the caller of every request, or refuses it."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith(OPEN):
            return self._get_response(request)
        try:
            request.caller = _caller(request)  # type: ignore[attr-defined]
        except RoutingError as exc:
            return _refused(request, exc)
        return self._get_response(request)


def _caller(request: HttpRequest) -> Caller:
    sent = request.headers.get("Authorization")
    if sent is None and (not settings.REQUIRE_KEYS or is_admin(request.user)):
        return ANONYMOUS
    return identify(None if sent is None else sent.encode("latin-1", "replace"))


def is_admin(user: Any) -> bool:
    return bool(user is not None and user.is_active and user.is_staff)


def identify(authorization: bytes | None) -> Caller:
    """Return who sent the header; raises Unidentified, or NotReady before there is a policy."""
    runtime = plane.current() or async_to_sync(plane.start)()
    return runtime.identify(authorization)


def _refused(request: HttpRequest, exc: RoutingError) -> HttpResponse:
    if isinstance(exc, Unidentified) and request.path in PAGES:
        return redirect_to_login(request.get_full_path())
    return refusal(request, failure_of(exc))


class WebSocketAccess:
    """The same for WebSockets: closes with 4401 who may not listen, or may no longer."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._with_session = AuthMiddlewareStack(self._signed_in)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if sent:
            # Sent twice, neither is believed.
            await self._with_key(b",".join(sent), scope, receive, send)
        elif settings.REQUIRE_KEYS:
            await self._with_session(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    async def _with_key(self, sent: bytes, scope: Any, receive: Any, send: Any) -> None:
        runtime = plane.current() or await plane.start()

        async def send_while_valid(message: Any) -> None:
            # A feed is open for hours: a key that is revoked meanwhile ends it.
            try:
                runtime.identify(sent)
            except RoutingError:
                message = {"type": "websocket.close", "code": NOT_SIGNED_IN}
            await send(message)

        try:
            runtime.identify(sent)
        except RoutingError:
            return await _close(receive, send)
        await self._inner(scope, receive, send_while_valid)

    async def _signed_in(self, scope: Any, receive: Any, send: Any) -> None:
        if is_admin(scope.get("user")):
            await self._inner(scope, receive, send)
        else:
            await _close(receive, send)


async def _close(receive: Any, send: Any) -> None:
    # Accepted first: a refused handshake hides the code from the browser.
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": NOT_SIGNED_IN})

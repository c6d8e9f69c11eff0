"""The ASGI application that every web worker serves: where the two planes meet.

Lanes come first, then Django; WebSockets go to Channels.
"""

import logging
import os
from typing import Any

from channels.routing import URLRouter  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestra_site.settings")
django_application = get_asgi_application()

# Only now: these read Django's settings or models.
from dashboard.routing import websocket_urlpatterns  # noqa: E402
from orchestra_site import collector, patience, probes  # noqa: E402
from orchestra_site.access import WebSocketAccess  # noqa: E402
from routing import plane  # noqa: E402
from routing.lanes.door import LaneDoor, Receive, Scope, Send  # noqa: E402
from routing.lanes.table import BY_ROUTE  # noqa: E402

logger = logging.getLogger(__name__)

POLICY_LIMIT_S = 3.0

door = LaneDoor(plane.current, plane.host_allowed)
websockets = WebSocketAccess(URLRouter(websocket_urlpatterns))


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Dispatch one connection: lane, probe, Django, WebSocket or lifespan."""
    kind = scope["type"]
    if kind == "http":
        await _http(scope, receive, send)
    elif kind == "websocket":
        await websockets(scope, receive, send)
    elif kind == "lifespan":
        await _lifespan(receive, send)


async def _http(scope: Any, receive: Any, send: Any) -> None:
    lane = door.lane_for(scope)
    if lane is not None:
        if plane.current() is None:
            await plane.start()
        await door(lane, scope, receive, send)
    elif scope["path"] in probes.PATHS:
        await probes.answer(scope, send)
    elif (scope["method"], scope["path"]) in BY_ROUTE:
        # A lane's browsable page takes as long as a model does.
        await django_application(scope, receive, send)
    else:
        await patience.within(patience.LIMIT_S, django_application, scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await plane.start()
            except Exception as exc:
                logger.exception("The data plane did not start")
                await send({"type": "lifespan.startup.failed", "message": str(exc)})
                return
            # Whoever takes connections before it can answer takes them from workers that could.
            # Without any policy to be had it must say so, after a while.
            await plane.ready_within(POLICY_LIMIT_S)
            collector.calm()
            await send({"type": "lifespan.startup.complete"})
        else:
            await plane.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return

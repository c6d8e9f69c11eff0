"""The lanes' second door: DRF views at the same paths, made from the same table.

They call the same handlers, so both doors give the same answers; this one adds DRF's browsable
pages. Volume goes through `routing.lanes.door`.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing import plane
from routing.engine.callers import ANONYMOUS
from routing.engine.errors import RoutingError
from routing.lanes.door import require_json
from routing.lanes.problems import failure_of
from routing.lanes.reply import Reply
from routing.lanes.table import LANES, Lane


class LaneView(APIView):
    """One lane in DRF's clothes."""

    lane: Lane
    schema = None  # described by `routing.api.schema` from the same table

    def get_view_name(self) -> str:
        return self.lane.name

    def get_view_description(self, html: bool = False) -> str:
        return self.lane.summary

    def answer(self, request: Request) -> HttpResponseBase:
        reply = async_to_sync(self._reply)(request._request)
        if reply.stream is not None:
            return StreamingHttpResponse(
                _until_closed(reply, reply.stream),
                content_type=reply.content_type,
                headers=reply.all_headers,
            )
        html = request.accepted_renderer.format == "api"
        return Response(
            msgspec.json.decode(reply.body),
            status=reply.status,
            headers=reply.all_headers,
            content_type=None if html else reply.content_type,
        )

    async def _reply(self, request: HttpRequest) -> Reply:
        runtime = await plane.start()
        try:
            if self.lane.request is not None:
                require_json((request.content_type or "").encode("latin-1", "replace"))
            key = request.headers.get("Idempotency-Key")
            sent = b"" if key is None else key.encode("latin-1", "replace") or b" "
            # Known to the middleware already, which let the request in.
            caller = getattr(request, "caller", ANONYMOUS)
            return await self.lane.answer(runtime, request.body, sent, caller)
        except RoutingError as exc:
            return self.lane.error_shape(failure_of(exc), None)


async def _until_closed(reply: Reply, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a stream, and end what is behind it even where its caller left in between."""
    try:
        async for chunk in stream:
            yield chunk
    finally:
        await reply.close()


class GetLaneView(LaneView):
    def get(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        return self.answer(request)


class PostLaneView(LaneView):
    def post(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        return self.answer(request)


_VIEWS: dict[str, type[LaneView]] = {"GET": GetLaneView, "POST": PostLaneView}


def view_for(lane: Lane) -> Any:
    """Return a DRF view function for `lane`."""
    base = _VIEWS[lane.method]
    made: type[LaneView] = type(base.__name__, (base,), {"lane": lane})
    return made.as_view()


def lane_paths(prefix: str) -> list[tuple[str, Any, str]]:
    """Return (path below `prefix`, view, name) of each lane under it."""
    return [
        (lane.path.removeprefix(prefix), view_for(lane), lane.name)
        for lane in LANES
        if lane.path.startswith(prefix)
    ]

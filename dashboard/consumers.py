"""The live feed of open dashboards."""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from channels.generic.websocket import (  # type: ignore[import-untyped]
    AsyncJsonWebsocketConsumer,
)
from redis.exceptions import RedisError

from telemetry.live import LIVE_GROUP, live_snapshot

NOTHING_THERE = 4404
TRY_AGAIN_LATER = 1013  # RFC 6455's registry; the page backs off and comes again

log = logging.getLogger(__name__)


class LiveConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # no types are published
    """Read-only feed of one open dashboard: a snapshot, then a tick a second.

    Messages are `{"type": "snapshot" | "tick", "data": <Live>}`, with `<Live>` as in
    `telemetry.live`. What the browser sends is ignored. Closes with 1013 while Redis is away.
    """

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        # Channels subscribes before `connect` and unsubscribes after `disconnect`: either may fail.
        try:
            await super().__call__(scope, receive, send)
        except (RedisError, OSError) as exc:
            log.warning("A live feed ends, Redis does not answer: %s", exc)
            with contextlib.suppress(OSError, RuntimeError):  # the browser may be gone, too
                await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})

    async def connect(self) -> None:
        await self.accept()
        # Join before reading: a change in between arrives twice instead of never.
        await self.channel_layer.group_add(LIVE_GROUP, self.channel_name)
        await self.send_json({"type": "snapshot", "data": await live_snapshot()})

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore it: the feed goes one way, and decoding would be work for whoever asks."""

    async def live_tick(self, message: dict[str, Any]) -> None:
        await self.send_json({"type": "tick", "data": message["data"]})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(LIVE_GROUP, self.channel_name)


async def nowhere(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Close with 4404 what was opened at a path that does not exist."""
    # Accepted first: a refused handshake hides the code from the browser.
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": NOTHING_THERE})

"""State news over Redis: what other workers and the conductor see, and what this one tells them.

Without Redis a worker goes on with what it sees itself; the bus reconnects for ever.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from telemetry.redis_names import STATE_CHANNEL, STATE_LAST
from telemetry.state_news import StateNews, decode, encode

logger = logging.getLogger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
RECONNECT_S = 1.0
TIMEOUT_S = 3.0
MOST_WAITING = 1000


class StateBus:
    """One worker's ear and mouth on the state channel."""

    def __init__(self, redis_url: str, hear: Callable[[StateNews], None]) -> None:
        self._redis_url = redis_url
        self._hear = hear
        self._outbox: asyncio.Queue[StateNews] = asyncio.Queue(MOST_WAITING)

    def tell(self, news: StateNews) -> None:
        """Send `news` soon; dropped if Redis has been away for a thousand of them."""
        if not self._outbox.full():
            self._outbox.put_nowait(news)

    async def listen(self) -> None:
        """Hear news for ever, beginning with the last of each kind."""
        while True:
            try:
                await self._listen_once()
            except AWAY as exc:
                logger.debug("State news are interrupted: %s", exc)
                await asyncio.sleep(RECONNECT_S)

    async def speak(self) -> None:
        """Send what `tell` was given, for ever."""
        client = self._client()
        try:
            while True:
                news = await self._outbox.get()
                try:
                    await self._send(client, news)
                except AWAY as exc:
                    logger.debug("State news could not be sent: %s", exc)
        finally:
            await client.aclose()

    async def _send(self, client: redis.asyncio.Redis, news: StateNews) -> None:
        raw = encode(news)
        async with client.pipeline(transaction=False) as pipe:
            pipe.publish(STATE_CHANNEL, raw)
            pipe.hset(STATE_LAST, news.key, raw)
            await pipe.execute()

    async def _listen_once(self) -> None:
        client = self._client()
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(STATE_CHANNEL)
                # Subscribed before reading: what changes in between is heard twice, not never.
                for raw in (await client.hgetall(STATE_LAST)).values():
                    self._take(raw)
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if message is not None:
                        self._take(message["data"])
        finally:
            await client.aclose()

    def _take(self, raw: bytes | str) -> None:
        try:
            news = decode(raw if isinstance(raw, bytes) else raw.encode())
        except msgspec.DecodeError as exc:
            logger.warning("A state message was not understood: %s", exc)
            return
        self._hear(news)

    def _client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self._redis_url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        )

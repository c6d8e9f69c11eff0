"""State news over Redis: what other workers and the conductor see, and what this one tells them.

Without Redis a worker goes on with what it sees itself; the bus reconnects for ever.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError, ResponseError

from routing.coordination import breakers
from telemetry.redis_names import STATE_CHANNEL, STATE_LAST
from telemetry.state_news import BreakerNews, StateNews, decode, encode

logger = logging.getLogger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
RECONNECT_S = 1.0
TIMEOUT_S = 3.0
MOST_WAITING = 1000
# A busy machine holds up one question about the time, and connecting holds up the first, on one way
# only. What was answered soonest says the most.
CLOCK_LOOKS = 5

Errand = Callable[[redis.asyncio.Redis], Awaitable[None]]


class StateBus:
    """One worker's ear and mouth on the state channel."""

    def __init__(self, redis_url: str, hear: Callable[[StateNews], None]) -> None:
        self._redis_url = redis_url
        self._hear = hear
        self._outbox: asyncio.Queue[Errand] = asyncio.Queue(MOST_WAITING)
        self._ahead_s: float | None = None  # Redis's clock less this process's monotonic one

    def fleet_time(self) -> float:
        """Return the time by Redis's clock, which all nodes share; this node's own before that."""
        return time.time() if self._ahead_s is None else time.monotonic() + self._ahead_s

    def tell(self, news: StateNews) -> None:
        """Send `news` soon; dropped if Redis has been away for a thousand of them."""
        self.then(partial(_send, news=news))

    def then(self, errand: Errand) -> None:
        """Do something in Redis after everything that was told before."""
        if not self._outbox.full():
            self._outbox.put_nowait(errand)

    async def listen(self) -> None:
        """Hear news for ever, beginning with the last of each kind."""
        while True:
            try:
                await self._listen_once()
            except AWAY as exc:
                logger.debug("State news are interrupted: %s", exc)
                await asyncio.sleep(RECONNECT_S)

    async def speak(self) -> None:
        """Send what `tell` was given, for ever and in order; what fails is sent again."""
        client = self._client()
        try:
            while True:
                await self._insist(client, await self._outbox.get())
        finally:
            await client.aclose()

    async def _insist(self, client: redis.asyncio.Redis, errand: Errand) -> None:
        while True:
            try:
                return await errand(client)
            except (ResponseError, DataError) as exc:
                return logger.warning("Redis refused state news: %s", exc)
            except AWAY as exc:
                logger.debug("State news could not be sent: %s", exc)
            await asyncio.sleep(RECONNECT_S)

    async def _listen_once(self) -> None:
        client = self._client()
        try:
            await self._set_clock(client)
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

    async def _set_clock(self, client: redis.asyncio.Redis) -> None:
        shortest = math.inf
        for _ in range(CLOCK_LOOKS):
            asked = time.monotonic()
            seconds, micros = await client.time()
            heard = time.monotonic()
            if heard - asked < shortest:
                # Read half-way between asking and hearing, as near as can be known.
                shortest, ahead_s = heard - asked, seconds + micros / 1e6 - (asked + heard) / 2
        self._ahead_s = ahead_s

    def _take(self, raw: bytes | str) -> None:
        try:
            news = decode(raw if isinstance(raw, bytes) else raw.encode())
        except msgspec.DecodeError as exc:
            logger.warning("A state message was not understood: %s", exc)
            return
        self._hear(news)

    def _client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self._redis_url,
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            # The tasks try again themselves: redis-py's pauses would outlast the fault by seconds.
            retry=Retry(NoBackoff(), 0),
        )


async def _send(client: redis.asyncio.Redis, *, news: StateNews) -> None:
    if isinstance(news, BreakerNews):
        return await breakers.tell(client, news)
    raw = encode(news)
    async with client.pipeline(transaction=False) as pipe:
        pipe.publish(STATE_CHANNEL, raw)
        pipe.hset(STATE_LAST, news.key, raw)
        await pipe.execute()
    return None

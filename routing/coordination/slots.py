"""Keeps this worker's places at the endpoints in step with the other workers', through Redis.

Places are leased ahead and in batches, in the background: a request takes one that is held. A
worker that dies is heard of no more, and what it held is shared out after `TTL_S`.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import redis.asyncio
from redis.exceptions import RedisError

from routing.coordination.slots_script import SHARE_OUT
from routing.engine import concurrency
from routing.engine.slots import Slots
from telemetry.redis_names import SLOTS, SLOTS_CHANNEL

logger = logging.getLogger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
TTL_S = 3.0
BEAT_S = 1.0
# A worker that was held up stops using its places before the others may have them.
MARGIN_S = 0.5
# Where no message wakes it, a worker that waits asks this often.
POLL_S = 0.02
LEAST_GAP_S = 0.002
TIMEOUT_S = 1.0
RECONNECT_S = 1.0
_FIGURES = (
    concurrency.LEAST,
    concurrency.MOST,
    concurrency.CUT,
    int(concurrency.DOUBLE_EVERY_S * 1000),
    int(concurrency.ADD_EVERY_S * 1000),
    int(concurrency.CUT_EVERY_S * 1000),
    int(concurrency.CALM_S * 1000),
    concurrency.CALM_GROWTH,
)


class SlotKeeper:
    """One worker's talk with Redis about places."""

    def __init__(
        self, redis_url: str, worker: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.changed: Callable[[str], None] = _nobody
        self.worker = worker
        self._redis_url, self._clock = redis_url, clock
        self._slots: dict[str, Slots] = {}
        self._first: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._calmed_at: dict[str, float] = {}
        self._wake = asyncio.Event()

    def keep(self, slots: Slots, provider: str) -> None:
        """Look after these places from now on; those of the same name are given up."""
        self._slots[slots.endpoint] = slots
        self._first[slots.endpoint] = concurrency.start_of(provider)
        self.hurry(slots.endpoint)

    def drop(self, endpoint: str) -> None:
        """Look after these no longer: what is leased lapses by itself."""
        self._slots.pop(endpoint, None)
        self._due.pop(endpoint, None)

    def hurry(self, endpoint: str) -> None:
        """Ask Redis at the next opportunity."""
        if endpoint in self._slots:
            # Many requests may begin to wait at once; Redis need not hear of each.
            soonest = self._asked.get(endpoint, 0.0) + LEAST_GAP_S
            self._due[endpoint] = min(self._due.get(endpoint, soonest), soonest)
            self._wake.set()

    async def run(self) -> None:
        """Lease, beat and give back, for ever."""
        client = self._client()
        script = client.register_script(SHARE_OUT)
        try:
            while True:
                await self._sleep()
                for name in self._now_due():
                    await self._tend(script, self._slots[name])
        finally:
            await client.aclose()

    async def listen(self) -> None:
        """Hear who waits or gave back, for ever."""
        while True:
            try:
                await self._listen_once()
            except AWAY as exc:
                logger.debug("Places are shared by polling only: %s", exc)
                await asyncio.sleep(RECONNECT_S)

    async def _sleep(self) -> None:
        self._wake.clear()
        soonest = min(self._due.values(), default=self._clock() + BEAT_S)
        left_s = soonest - self._clock()
        if left_s <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(left_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _now_due(self) -> list[str]:
        now = self._clock()
        return [name for name, at in self._due.items() if at <= now and name in self._slots]

    async def _tend(self, script: redis.commands.core.AsyncScript, slots: Slots) -> None:
        name, now = slots.endpoint, self._clock()
        asked_at = self._asked[name] = now
        self._due[name] = now + BEAT_S
        if now - self._calmed_at.get(name, now - BEAT_S) >= BEAT_S:
            self._calmed_at[name] = now
            slots.calm()
        try:
            held, limit, workers, hungry, settled = await script(
                keys=[SLOTS + name], args=self._arguments(slots, now)
            )
        except AWAY as exc:
            logger.debug("Places of '%s' cannot be shared: %s", name, exc)
            slots.lose_redis(self._clock())
        else:
            slots.hear(
                self._clock(),
                leased=held,
                limit=float(limit),
                workers=workers,
                hungry=hungry,
                until=asked_at + TTL_S - MARGIN_S,
                settled=settled == 1,
            )
        self._due[name] = min(self._due[name], self._next(slots))
        self.changed(name)

    def _arguments(self, slots: Slots, now: float) -> list[str | int | float]:
        vote = slots.ballot(now)
        give_way = int(now >= slots.yield_at)
        return [
            self.worker,
            slots.offer(now),
            slots.wanted(now),
            vote,
            slots.fixed,
            self._first[slots.endpoint],
            int(TTL_S * 1000),
            give_way,
            *_FIGURES,
            SLOTS_CHANNEL,
            slots.endpoint,
        ]

    def _next(self, slots: Slots) -> float:
        """Return when to ask again, if nothing wakes this worker before."""
        now = self._clock()
        if slots.urgent and slots.hungry and slots.in_use < slots.leased:
            return now
        if slots.degraded:
            return now + (BEAT_S if slots.free(now) > 0 else BEAT_S / 4)
        if slots.waiting > 0 and slots.free(now) <= 0:
            return now + POLL_S
        return min(now + BEAT_S, max(slots.yield_at, now + POLL_S / 4))

    async def _listen_once(self) -> None:
        client = self._client()
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(SLOTS_CHANNEL)
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if message is not None:
                        self.hurry(message["data"].decode())
        finally:
            await client.aclose()

    def _client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self._redis_url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        )


def _nobody(endpoint: str) -> None:
    """Before a gate is there nobody waits."""

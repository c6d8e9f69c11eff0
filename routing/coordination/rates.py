"""Keeps this worker's leases of rate limits in step with the other workers', through Redis.

Units are leased ahead and in the background, all limits in one pipeline: a request takes what is
held. Without Redis each worker goes on with its share, and tells what it spent when Redis is back.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable

import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from routing.coordination.rates_script import ASK, BEAT, REDIS_CLOCK
from routing.engine.rate_lease import Lease
from routing.engine.rates import Ask, Grant, Limit
from telemetry.redis_names import RATES, RATES_CHANNEL, RATES_WORKERS

logger = logging.getLogger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
BEAT_S = 1.0
# A worker that has not been heard of for so long has no share of its own any more.
GONE_S = 5.0
# Where a request waits for what others hold, this often it is looked for.
POLL_S = 0.005
LEAST_GAP_S = 0.002
TIMEOUT_S = 1.0
RETRY_S = 1.0


class RateKeeper:
    """One worker's talk with Redis about limits; with no URL, it keeps them on its own."""

    def __init__(
        self,
        redis_url: str,
        worker: str,
        clock: Callable[[], float] = time.monotonic,
        redis_clock: str = REDIS_CLOCK,
    ) -> None:
        self.worker = worker
        self.workers = 1  # that heed limits, this one included
        self.degraded = not redis_url  # without one, this worker's share is the whole
        self.heeded = False  # is anybody limited?
        self.changed: Callable[[Lease], None] = _nobody
        self._redis_url, self._clock = redis_url, clock
        self._script = redis_clock + ASK
        self._leases: dict[str, Lease] = {}
        self._due: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._beat_at = 0.0
        self._retry_at = 0.0
        self._unanswered_since: float | None = None
        self._wake = asyncio.Event()

    @property
    def leases(self) -> Iterable[Lease]:
        return self._leases.values()

    def lease(self, limit: Limit) -> Lease:
        """Return the lease of a limit, which is begun if there is none."""
        found = self._leases.get(limit.id)
        if found is None:
            found = self._leases[limit.id] = Lease(limit, self.worker)
            if self.degraded:
                found.lose(self._clock(), self.workers)
        found.heed(limit)
        return found

    def keep_only(self, limits: Iterable[Limit]) -> None:
        """Forget the leases of limits that are no more: what was leased lapses by itself."""
        kept = {limit.id for limit in limits}
        for name in [name for name in self._leases if name not in kept]:
            del self._leases[name]
            self._due.pop(name, None)
        self.heeded = bool(kept)
        self._wake.set()

    def hurry(self, lease: Lease) -> None:
        """Ask Redis at the next opportunity; without Redis, the own share at once."""
        if self.degraded:
            lease.ask_share(self._clock())
            return
        name = lease.limit.id
        # Many requests may become short at once; Redis need not hear of each.
        soonest = self._asked.get(name, 0.0) + LEAST_GAP_S
        self._due[name] = min(self._due.get(name, soonest), soonest)
        self._wake.set()

    def silent_s(self) -> float:
        """Return for how long Redis has been asked something without an answer."""
        since = self._unanswered_since
        return 0.0 if since is None else self._clock() - since

    def lose(self) -> None:
        """Go on without Redis: every limit by its share."""
        if not self.degraded:
            logger.warning("Redis is away: limits are kept by 1/%d in each worker.", self.workers)
        self.degraded = True
        self._retry_at = self._clock() + RETRY_S
        self._due.clear()
        self._unanswered_since = None
        for lease in self._leases.values():
            lease.lose(self._clock(), self.workers)
            lease.ask_share(self._clock())
            self.changed(lease)

    async def run(self) -> None:
        """Lease, beat and give back, for ever."""
        client = self._client()
        try:
            while True:
                await self._sleep()
                if self.degraded:
                    await self._look(client)
                else:
                    await self._tend(client, self._now_due())
        finally:
            await client.aclose()

    async def listen(self) -> None:
        """Hear who is short of what is held here, for ever."""
        while True:
            try:
                await self._listen_once()
            except AWAY as exc:
                logger.debug("Limits are shared by asking only: %s", exc)
                await asyncio.sleep(RETRY_S)

    async def _sleep(self) -> None:
        self._wake.clear()
        now = self._clock()
        if self.degraded:
            soonest = self._retry_at
        else:
            soonest = min(self._due.values(), default=now + BEAT_S)
            if self.heeded:
                soonest = min(soonest, self._beat_at)
        if soonest <= now:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(soonest - now):
                await self._wake.wait()

    def _now_due(self) -> list[Lease]:
        now = self._clock()
        due = [name for name, at in self._due.items() if at <= now]
        return [self._leases[name] for name in due if name in self._leases]

    async def _look(self, client: redis.asyncio.Redis) -> None:
        """See whether Redis is back."""
        now = self._clock()
        if now < self._retry_at:
            return
        self._retry_at = now + RETRY_S
        try:
            await self._beat(client)
        except AWAY:
            return
        self.degraded = False
        logger.warning("Redis is back: limits are kept by all workers together.")
        for lease in self._leases.values():
            lease.regain()
            if not lease.idle:
                self.hurry(lease)

    async def _tend(self, client: redis.asyncio.Redis, due: list[Lease]) -> None:
        beating = self.heeded and self._clock() >= self._beat_at
        if not due and not beating:
            return
        asked_at = self._unanswered_since = self._clock()
        try:
            if due:
                await self._ask(client, due, asked_at)
            if beating:
                await self._beat(client)
        except AWAY as exc:
            logger.debug("Limits cannot be shared: %s", exc)
            self.lose()
        finally:
            self._unanswered_since = None

    async def _ask(self, client: redis.asyncio.Redis, due: list[Lease], asked_at: float) -> None:
        asks = [lease.state(asked_at) for lease in due]
        pipe = client.pipeline(transaction=False)
        for lease, ask in zip(due, asks, strict=True):
            name = lease.limit.id
            self._asked[name] = asked_at
            # What becomes due while Redis thinks is not overwritten afterwards.
            self._due.pop(name, None)
            pipe.eval(self._script, 1, RATES + name, *self._arguments(lease, ask))
        said = await pipe.execute()
        now = self._clock()
        for lease, ask, words in zip(due, asks, said, strict=True):
            lease.hear(now, asked_at, ask, Grant(**dict(zip(SAID, words, strict=True))))
            self._plan(lease, now)
            self.changed(lease)

    def _plan(self, lease: Lease, now: float) -> None:
        """Set when Redis is to hear of a lease again, if nothing comes before."""
        name = lease.limit.id
        if lease.idle or self.degraded:
            return
        soonest = now + (POLL_S if lease.waiting else BEAT_S)
        self._due[name] = min(self._due.get(name, soonest), soonest)

    def _arguments(self, lease: Lease, ask: Ask) -> list[str | int]:
        limit = lease.limit
        return [
            ask.worker, ask.seq, ask.holds, ask.back, ask.extra, ask.least, ask.wanted,
            ask.ahead, ask.ttl_us, ask.born_us, ask.owed_us, ask.most, limit.period_us,
            limit.burst, self.workers, RATES_CHANNEL, f"{self.worker} {limit.id}",
        ]  # fmt: skip

    async def _beat(self, client: redis.asyncio.Redis) -> None:
        said = client.eval(BEAT, 1, RATES_WORKERS, self.worker, int(GONE_S * 1000))
        self.workers = max(int(await said), 1)
        self._beat_at = self._clock() + BEAT_S

    async def _listen_once(self) -> None:
        client = self._client()
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(RATES_CHANNEL)
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if message is not None:
                        self._give_way(message["data"].decode())
        finally:
            await client.aclose()

    def _give_way(self, said: str) -> None:
        worker, _, name = said.partition(" ")
        lease = self._leases.get(name)
        if lease is None or worker == self.worker or self.degraded:
            return
        if lease.give_way(self._clock()):
            self.hurry(lease)

    def _client(self) -> redis.asyncio.Redis:
        # Told twice, an ask is heard once: its number tells.
        return redis.asyncio.Redis.from_url(
            self._redis_url,
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
        )


SAID = ("units", "left", "owed_us", "wait_us", "others", "born_us")


def _nobody(lease: Lease) -> None:
    """Before there are lanes nobody waits."""

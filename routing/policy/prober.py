"""A conductor's job: look at every enabled endpoint, tell the workers, record what is new.

One conductor of a fleet does it, the one that holds the lock in Redis. Only metadata is asked for.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import httpx
import redis.asyncio
from django.conf import settings
from django.db import DatabaseError
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from routing.engine.catalog import EndpointSpec, PolicyDocument
from routing.policy import discovery, metadata, news
from routing.policy.database import in_thread
from routing.policy.metadata import Found, ProbeError
from routing.policy.watch import PolicyUnavailable, PolicyWatcher
from telemetry import state_news
from telemetry.redis_names import POLICY_PROBER, STATE_CHANNEL, STATE_LAST

logger = logging.getLogger(__name__)

EVERY_S = 5.0
# A new start of a server is seen soon; one that stays away is asked less often.
DOWN_EVERY_S = 2.0
LONG_DOWN_AFTER_S = 300.0
LONG_DOWN_EVERY_S = 10.0
TICK_S = 0.25
LOCK_S = 10.0
RETRY_S = 1.0
REDIS_TIMEOUT_S = 3.0


@dataclass(slots=True)
class Watched:
    """An endpoint and what is known of it in this process."""

    endpoint: EndpointSpec
    due_s: float = 0.0  # monotonic
    up: bool | None = None
    down_since_s: float = 0.0
    recorded: dict[str, str] = field(default_factory=dict)  # upstream name: digest
    task: asyncio.Task[None] | None = None


async def run(stop: asyncio.Event) -> None:
    """Probe until `stop` is set; waits while Redis, PostgreSQL or the lock is not to be had."""
    watcher = PolicyWatcher(settings.REDIS_URL)
    prober = Prober()
    while not stop.is_set():
        with contextlib.suppress(PolicyUnavailable):
            prober.change(await watcher.initial())
            break
        await _pause(stop, RETRY_S)
    async with asyncio.TaskGroup() as group:
        group.create_task(watcher.run(stop, prober.change))
        group.create_task(prober.run(stop))


class Prober:
    """Looks at endpoints while this conductor holds the lock."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        self._forget: set[str] = set()

    def change(self, document: PolicyDocument) -> None:
        """Take over a new policy; new and changed endpoints are looked at right away."""
        before, self._watched = self._watched, {}
        for endpoint in document.endpoints:
            if not endpoint.enabled:
                continue
            known = before.pop(endpoint.name, None)
            if known is not None and known.endpoint == endpoint:
                self._watched[endpoint.name] = known
            else:
                self._watched[endpoint.name] = Watched(endpoint)
        self._forget |= before.keys() - self._watched.keys()

    async def run(self, stop: asyncio.Event) -> None:
        away = False
        while not stop.is_set():
            try:
                async with _redis() as store:
                    await self._lead_when_free(store, stop)
                away = False
            except (RedisError, OSError) as exc:
                if not away:
                    logger.warning("Endpoints are not probed while Redis is away: %s", exc)
                away = True
            await _pause(stop, RETRY_S)

    async def _lead_when_free(self, store: redis.asyncio.Redis, stop: asyncio.Event) -> None:
        lock = store.lock(POLICY_PROBER, timeout=LOCK_S, blocking=False)
        if not await lock.acquire():
            return
        try:
            async with metadata.client() as http:
                await self._lead(store, http, lock, stop)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await lock.release()

    async def _lead(
        self,
        store: redis.asyncio.Redis,
        http: httpx.AsyncClient,
        lock: Lock,
        stop: asyncio.Event,
    ) -> None:
        """Probe what is due, several endpoints at a time, until stopped or the lock is lost."""
        extend_at_s = time.monotonic() + LOCK_S / 3
        try:
            while not stop.is_set():
                if time.monotonic() >= extend_at_s:
                    await lock.reacquire()
                    extend_at_s = time.monotonic() + LOCK_S / 3
                await self._forget_gone(store)
                self._start_due(store, http)
                await _pause(stop, TICK_S)
        except LockError:
            logger.info("Another conductor probes the endpoints now.")
        finally:
            await self._end_probes()

    def _start_due(self, store: redis.asyncio.Redis, http: httpx.AsyncClient) -> None:
        now_s = time.monotonic()
        for watched in self._watched.values():
            if watched.task is not None and watched.task.done():
                watched.task.result()
                watched.task = None
            if watched.task is None and watched.due_s <= now_s:
                watched.task = asyncio.create_task(self._probe(store, http, watched))

    async def _end_probes(self) -> None:
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watched in self._watched.values():
            watched.task, watched.due_s = None, 0.0

    async def _forget_gone(self, store: redis.asyncio.Redis) -> None:
        """Take back the last news of endpoints that were deleted or disabled."""
        while self._forget:
            name = self._forget.pop()
            await store.hdel(STATE_LAST, f"endpoint:{name}")

    async def _probe(
        self, store: redis.asyncio.Redis, http: httpx.AsyncClient, watched: Watched
    ) -> None:
        endpoint = watched.endpoint
        try:
            sighting = await metadata.look(http, endpoint)
        except ProbeError as exc:
            await _tell(store, news.unseen(endpoint, str(exc)))
            _note_down(watched, str(exc))
            return
        await _tell(store, news.seen(endpoint, sighting))
        _note_up(watched, sighting.version)
        unrecorded = [found for found in sighting.models or () if not _is_recorded(watched, found)]
        if unrecorded:
            await self._record(http, watched, unrecorded)
        watched.due_s = time.monotonic() + EVERY_S

    async def _record(
        self, http: httpx.AsyncClient, watched: Watched, unrecorded: list[Found]
    ) -> None:
        name = watched.endpoint.name
        described = await discovery.describe_all(http, watched.endpoint, unrecorded)
        try:
            seen = await in_thread(partial(discovery.record, name, described))
        except DatabaseError as exc:
            reason = str(exc).strip().partition("\n")[0]
            logger.warning("What %s offers is recorded later: %s", name, reason)
            return
        watched.recorded |= {found.name: found.digest for found in described}
        if seen.offerings_added:
            logger.info("Found at %s: %s.", name, ", ".join(seen.offerings_added))


def _is_recorded(watched: Watched, found: Found) -> bool:
    return watched.recorded.get(found.name) == found.digest


def _note_up(watched: Watched, version: str) -> None:
    if watched.up is not True:
        logger.info("Endpoint %s is up%s.", watched.endpoint.name, version and f" ({version})")
    watched.up = True


def _note_down(watched: Watched, reason: str) -> None:
    now_s = time.monotonic()
    if watched.up is not False:
        logger.warning("Endpoint %s is down. %s", watched.endpoint.name, reason)
        watched.down_since_s = now_s
    watched.up = False
    is_long = now_s - watched.down_since_s > LONG_DOWN_AFTER_S
    watched.due_s = now_s + (LONG_DOWN_EVERY_S if is_long else DOWN_EVERY_S)


async def _tell(store: redis.asyncio.Redis, item: state_news.EndpointNews) -> None:
    message = state_news.encode(item)
    await store.hset(STATE_LAST, item.key, message)
    await store.publish(STATE_CHANNEL, message)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT_S, socket_timeout=REDIS_TIMEOUT_S
    )
    try:
        yield client
    finally:
        await client.aclose()

"""Consumes what other services tell: host memory and model health become state news."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from telemetry import redis_names, state_news
from telemetry.crossing import PressureWatch
from telemetry.events import CONSUMED, Event, ModelHealthChanged, SystemResourceUpdated
from telemetry.gpu import Gpu
from telemetry.state_news import HostNews, ModelHealthNews
from telemetry.waiting import Backoff, pause

logger = logging.getLogger(__name__)

READ_ENTRIES = 100
BLOCK_MS = 500
ORPHAN_MS = 30_000
REJECTED_LENGTH = 10_000
Fields = dict[bytes, bytes]
Entry = tuple[bytes, Fields]


class Malformed(Exception):
    """Raised for an entry that is not one of the consumed events; the text says why."""


class EventIntake:
    """Reads `EVENTS_IN` through a consumer group: each entry is dealt with by one conductor.

    What a killed conductor had taken and not finished it takes up again when it is back, or another
    one does after `ORPHAN_MS`.
    """

    def __init__(
        self,
        redis: Redis,
        consumer: str,
        *,
        publish: Callable[[Event], None] = lambda event: None,
        models: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """Tell crossings of hosts to `publish`; `models` are known, empty while nobody knows."""
        self._redis = redis
        self._publish = publish
        self._models = models
        self._watches: dict[str, PressureWatch] = {}
        self._consumer = consumer
        self._ready = False

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                await self.take()
                backoff.succeeded()
            except (RedisError, OSError) as exc:
                # The group is gone when Redis lost its data.
                self._ready = False
                if backoff.fresh:
                    logger.warning("Events of other services wait, Redis is away: %s", exc)
                await pause(stop, backoff.failed())

    async def take(self, block_ms: int = BLOCK_MS) -> int:
        """Deal with the next entries, waiting up to `block_ms` for one; returns how many."""
        if not self._ready:
            await self._join()
            unfinished = await self._read("0", block_ms=None)
            self._ready = True
        else:
            unfinished = await self._orphans()
        entries = unfinished or await self._read(">", block_ms)
        for entry_id, fields in entries:
            await self._deal_with(entry_id, fields)
        return len(entries)

    async def _join(self) -> None:
        try:
            await self._redis.xgroup_create(
                redis_names.EVENTS_IN, redis_names.EVENTS_IN_GROUP, id="0", mkstream=True
            )
        except ResponseError as exc:
            if "BUSYGROUP" not in str(exc):
                raise

    async def _read(self, start: str, block_ms: int | None) -> list[Entry]:
        answer: Any = await self._redis.xreadgroup(
            redis_names.EVENTS_IN_GROUP,
            self._consumer,
            {redis_names.EVENTS_IN: start},
            count=READ_ENTRIES,
            block=block_ms,
        )
        return _entries(answer)

    async def _orphans(self) -> list[Entry]:
        answer: Any = await self._redis.xautoclaim(
            redis_names.EVENTS_IN,
            redis_names.EVENTS_IN_GROUP,
            self._consumer,
            ORPHAN_MS,
            count=READ_ENTRIES,
        )
        return list(answer[1])

    async def _deal_with(self, entry_id: bytes, fields: Fields) -> None:
        """Pass one entry on, or set it aside; in the same transaction, tick it off."""
        news: HostNews | ModelHealthNews | None = None
        async with self._redis.pipeline(transaction=True) as pipe:
            try:
                news = news_of(fields, _entry_time(entry_id))
                self._require_known(news)
            except Malformed as exc:
                news = None
                logger.warning("Event %s is rejected: %s", entry_id.decode(), exc)
                rejected: dict[Any, Any] = {**(fields or {}), b"reason": str(exc)}
                pipe.xadd(
                    redis_names.EVENTS_REJECTED,
                    rejected | {b"rejected_id": entry_id},
                    maxlen=REJECTED_LENGTH,
                )
            else:
                message = state_news.encode(news)
                pipe.hset(redis_names.STATE_LAST, news.key, message)
                pipe.publish(redis_names.STATE_CHANNEL, message)
            pipe.xack(redis_names.EVENTS_IN, redis_names.EVENTS_IN_GROUP, entry_id)
            await pipe.execute()
        if news is not None:
            await self._watch(news)

    def _require_known(self, news: HostNews | ModelHealthNews) -> None:
        models = self._models()
        if isinstance(news, ModelHealthNews) and models and news.model not in models:
            raise Malformed(f"model_name is {news.model!r}, which the policy does not offer")

    async def _watch(self, news: HostNews | ModelHealthNews) -> None:
        """Tell of a host that got tight, once in the fleet: Redis keeps who was told of."""
        if not isinstance(news, HostNews) or news.host == "local":
            return
        watch = self._watches.setdefault(news.host, PressureWatch(news.host))
        event = watch.see(news.tightness, news.available_gb, news.at)
        if event is not None:
            first = await self._redis.sadd(redis_names.PRESSED_HOSTS, news.host)
            if first:
                self._publish(event)
        elif not watch.high:
            await self._redis.srem(redis_names.PRESSED_HOSTS, news.host)


def _entries(answer: Any) -> list[Entry]:
    """Return the entries of the one stream asked for, in either protocol's answer."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in batch]
    return list(answer[0][1])


def news_of(fields: Fields, came_at: float) -> HostNews | ModelHealthNews:
    """Return the state news that an entry stands for; raises Malformed."""
    event = _event(fields)
    if isinstance(event, SystemResourceUpdated):
        return HostNews(
            host=event.host,
            at=_at(event.timestamp, came_at),
            available_gb=event.memory_available_gb,
            total_gb=event.memory_total_gb,
            cpu_percent=event.cpu_usage_percent,
            swap_percent=event.swap_used_percent,
            pressure=event.pressure,
            psi_some=event.psi_some_percent,
            psi_full=event.psi_full_percent,
            gpus=tuple(Gpu(g.name, g.total_gb, g.free_gb) for g in event.gpus),
            interval_s=event.interval_s or 0.0,
            ollama_port=event.ollama_port or 0,
            loaded=None if event.loaded is None else tuple(m.name for m in event.loaded),
        )
    assert isinstance(event, ModelHealthChanged)  # noqa: S101 - narrows for mypy
    return ModelHealthNews(
        model=event.model_name,
        healthy=event.healthy,
        at=_at(event.timestamp, came_at),
        endpoint=event.endpoint,
        reason=event.reason,
    )


def _event(fields: Fields) -> Event:
    # Deleted while it waited to be finished: nothing is left of it.
    name = (fields or {}).get(b"name", b"").decode(errors="replace")
    if name not in CONSUMED:
        raise Malformed(f"name is {name!r}; known are {', '.join(sorted(CONSUMED))}")
    if b"payload" not in fields:
        raise Malformed("the field payload is missing; give the event as JSON")
    try:
        return msgspec.json.decode(fields[b"payload"], type=CONSUMED[name])
    except msgspec.DecodeError as exc:
        raise Malformed(f"payload: {exc}") from exc


def _at(timestamp: Any, came_at: float) -> float:
    # A clock that runs ahead must not outdate what is told later.
    return min(timestamp.timestamp(), time.time()) if timestamp is not None else came_at


def _entry_time(entry_id: bytes) -> float:
    return int(entry_id.split(b"-")[0]) / 1000

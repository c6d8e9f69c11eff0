"""Consuming what other services tell, through a real Redis stream."""

import asyncio
import json
import time
from typing import Any

import pytest

from telemetry import redis_names, state_news
from telemetry.event_intake import EventIntake
from telemetry.state_news import HostNews, ModelHealthNews

HEALTH = {"model_name": "m:7b", "healthy": False, "endpoint": "e", "reason": "garbled"}
MEMORY = {"memory_available_gb": 3.5, "memory_total_gb": 16, "host": "gpu-box"}


async def tell(redis: Any, name: str, payload: Any) -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return bytes(await redis.xadd(redis_names.EVENTS_IN, {"name": name, "payload": text}))


async def last_news(redis: Any) -> dict[str, Any]:
    kept = await redis.hgetall(redis_names.STATE_LAST)
    return {key.decode(): state_news.decode(value) for key, value in kept.items()}


async def test_both_events_become_state_news(redis: Any) -> None:
    listener = redis.pubsub()
    await listener.subscribe(redis_names.STATE_CHANNEL)
    await tell(redis, "model.health_changed", HEALTH | {"timestamp": "2026-01-01T00:00:00Z"})
    await tell(redis, "system.resource_updated", MEMORY)
    assert await EventIntake(redis, "c").take(10) == 2
    news = await last_news(redis)
    assert news["model_health:m:7b@e"] == ModelHealthNews(
        model="m:7b", healthy=False, at=1767225600.0, endpoint="e", reason="garbled"
    )
    host = news["host:gpu-box"]
    assert isinstance(host, HostNews)
    assert (host.available_gb, host.total_gb) == (3.5, 16.0)
    assert abs(host.at - time.time()) < 30
    published = []
    while message := await listener.get_message(timeout=0.2):
        if message["type"] == "message":
            published.append(state_news.decode(message["data"]))
    await listener.aclose()
    assert sorted(published, key=lambda n: n.key) == sorted(news.values(), key=lambda n: n.key)


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("model.exploded", {}, "name is 'model.exploded'; known are"),
        ("model.health_changed", "{", "Input data was truncated"),
        ("model.health_changed", {"model_name": "m"}, "missing required field `healthy`"),
        ("model.health_changed", HEALTH | {"endpont": "e"}, "unknown field `endpont`"),
        ("model.health_changed", HEALTH | {"timestamp": "2026-01-01T00:00:00"}, "timezone"),
        ("system.resource_updated", MEMORY | {"memory_available_gb": -1}, ">= 0"),
        ("system.resource_updated", MEMORY | {"memory_available_gb": 17}, "more than"),
        ("system.resource_updated", MEMORY | {"memory_total_gb": "16"}, "Expected `float`"),
    ],
)
async def test_a_malformed_event_is_set_aside_with_the_reason(
    redis: Any, name: str, payload: Any, reason: str
) -> None:
    entry_id = await tell(redis, name, payload)
    await tell(redis, "model.health_changed", HEALTH)
    assert await EventIntake(redis, "c").take(10) == 2
    assert list(await last_news(redis)) == ["model_health:m:7b@e"]
    ((_, rejected),) = await redis.xrange(redis_names.EVENTS_REJECTED)
    assert reason in rejected[b"reason"].decode()
    assert rejected[b"name"] == name.encode()
    assert rejected[b"rejected_id"] == entry_id


async def test_an_entry_without_our_fields_is_set_aside(redis: Any) -> None:
    await redis.xadd(redis_names.EVENTS_IN, {"nom": "model.health_changed"})
    await redis.xadd(redis_names.EVENTS_IN, {"name": "model.health_changed"})
    await EventIntake(redis, "c").take(10)
    reasons = [e[b"reason"] for _, e in await redis.xrange(redis_names.EVENTS_REJECTED)]
    assert len(reasons) == 2
    assert b"payload is missing" in reasons[1]


async def test_what_came_while_nobody_listened_is_dealt_with_once(redis: Any) -> None:
    await EventIntake(redis, "c").take(10)
    await tell(redis, "system.resource_updated", MEMORY)
    assert await EventIntake(redis, "c").take(10) == 1
    assert await EventIntake(redis, "c").take(10) == 0


async def test_what_a_killed_conductor_had_taken_is_taken_up_again(redis: Any) -> None:
    await EventIntake(redis, "c").take(10)
    await tell(redis, "system.resource_updated", MEMORY)
    # As if killed between reading and ticking off.
    await redis.xreadgroup(redis_names.EVENTS_IN_GROUP, "c", {redis_names.EVENTS_IN: ">"})
    assert await EventIntake(redis, "c").take(10) == 1
    assert "host:gpu-box" in await last_news(redis)


async def test_another_conductor_takes_over_from_a_dead_one(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.event_intake.ORPHAN_MS", 1)
    other = EventIntake(redis, "other")
    await other.take(10)
    await tell(redis, "system.resource_updated", MEMORY)
    await redis.xreadgroup(redis_names.EVENTS_IN_GROUP, "dead", {redis_names.EVENTS_IN: ">"})
    await asyncio.sleep(0.01)
    assert await other.take(10) == 1


async def test_it_survives_redis_losing_everything(redis: Any) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(EventIntake(redis, "c").run(stop))
    await asyncio.sleep(0.1)
    await redis.flushall()
    async with asyncio.timeout(10):
        while not await last_news(redis):
            await tell(redis, "system.resource_updated", MEMORY)
            await asyncio.sleep(0.2)
    stop.set()
    await asyncio.wait_for(running, 5)

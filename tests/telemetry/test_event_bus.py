"""Publishing on a real Redis stream, with outages that are real to the bus."""

import asyncio
import datetime as dt
import json
import uuid
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from telemetry import redis_names
from telemetry.event_bus import EventBus
from telemetry.events import ModelSelected
from tests.telemetry.records import a_record


def stopped() -> asyncio.Event:
    stop = asyncio.Event()
    stop.set()
    return stop


async def test_entries_have_the_four_fields(redis: Any) -> None:
    bus = EventBus(redis)
    bus.publish_records([a_record(1, created_at_us=1_000_000_000_000_000, response_time_ms=500)])
    await bus.run(stopped())
    ((_, entry),) = await redis.xrange(redis_names.EVENTS_OUT)
    assert set(entry) == {b"name", b"payload", b"at", b"id"}
    assert entry[b"name"] == b"model.selected"
    assert json.loads(entry[b"payload"])["request_id"] == "req-00000001"
    at = dt.datetime.fromisoformat(entry[b"at"].decode())
    assert at == dt.datetime(2001, 9, 9, 1, 46, 40, 500000, tzinfo=dt.UTC)
    assert uuid.UUID(entry[b"id"].decode()).version == 4


async def test_a_burst_is_sent_whole_and_in_order(redis: Any) -> None:
    bus = EventBus(redis)
    bus.publish_records([a_record(n) for n in range(3500)])
    await bus.run(stopped())
    entries = await redis.xrange(redis_names.EVENTS_OUT)
    told = [json.loads(entry[b"payload"])["request_id"] for _, entry in entries]
    assert told == [f"req-{n:08d}" for n in range(3500)]


async def test_the_stream_is_trimmed(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telemetry.event_bus.STREAM_LENGTH", 1000)
    bus = EventBus(redis)
    bus.publish_records([a_record(n) for n in range(5000)])
    await bus.run(stopped())
    # Redis trims whole nodes of the stream, which hold up to 100 entries.
    assert 1000 <= await redis.xlen(redis_names.EVENTS_OUT) <= 1200


async def test_what_redis_refused_is_sent_when_it_is_back(redis: Any) -> None:
    bus = EventBus(redis, keep=10)
    # A key of another type makes Redis refuse what is sent.
    await redis.set(redis_names.EVENTS_OUT, "not a stream")
    stop = asyncio.Event()
    running = asyncio.create_task(bus.run(stop))
    for number in range(15):
        bus.publish(ModelSelected(f"req-{number}", "m", "code", 0))
    await asyncio.sleep(0.1)
    await redis.delete(redis_names.EVENTS_OUT)
    async with asyncio.timeout(10):
        while await redis.xlen(redis_names.EVENTS_OUT) < 10:  # noqa: ASYNC110 - Redis's doing
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(running, 5)
    entries = await redis.xrange(redis_names.EVENTS_OUT)
    assert [json.loads(e[b"payload"])["request_id"] for _, e in entries] == [
        f"req-{n}" for n in range(5, 15)
    ]
    assert bus.dropped == 5


async def test_stopping_without_redis_does_not_wait(tmp_path: object) -> None:
    async with Redis.from_url(f"unix://{tmp_path}/none.sock") as nowhere:
        bus = EventBus(nowhere)
        bus.publish(ModelSelected("req-1", "m", "code", 0))
        await asyncio.wait_for(bus.run(stopped()), 5)
        with pytest.raises((RedisError, OSError)):
            await nowhere.ping()

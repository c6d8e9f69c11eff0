"""One conductor of several leads, and what it does then."""

import asyncio
from typing import Any

from telemetry import redis_names
from telemetry.database import AsyncConnection
from telemetry.leader import LEADER_LOCK, Leader
from telemetry.loads import all_loads, tell_loads
from telemetry.partitions import Retention, existing_days, today
from telemetry.shipper.store import CREATE_INCOMING, store
from tests.telemetry.asking import one, rows
from tests.telemetry.records import a_record

HOLDERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted"


async def test_only_one_leads_and_another_follows_it(
    database: AsyncConnection, redis: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("telemetry.leader.ELECTION_EVERY_S", 0.05)
    stops = [asyncio.Event(), asyncio.Event()]
    leaders = [
        asyncio.create_task(Leader(redis, dict, retention=Retention(30, 400)).run(stop))
        for stop in stops
    ]
    await asyncio.sleep(0.5)
    assert await one(database, HOLDERS, LEADER_LOCK) == 1
    for stop, leader in zip(stops, leaders, strict=True):
        stop.set()
        await asyncio.wait_for(leader, 5)
        await asyncio.sleep(0.3)
        left = sum(not other.done() for other in leaders)
        assert await one(database, HOLDERS, LEADER_LOCK) == left
    assert today() in await existing_days(database)


async def test_load_and_memory_reach_the_models_row(database: AsyncConnection, redis: Any) -> None:
    await database.execute(CREATE_INCOMING)
    await store(database, [a_record(0), a_record(1)])
    await tell_loads(redis, "node-a", {"model-0": 1.5})
    await tell_loads(redis, "node-b", {"model-0": 0.25, "unheard-of": 3.0})
    stop = asyncio.Event()
    leader = Leader(redis, lambda: {"model-1": 2048.5}, retention=Retention(30, 400))
    running = asyncio.create_task(leader.run(stop))
    await asyncio.sleep(0.5)
    stop.set()
    await asyncio.wait_for(running, 5)
    found = await rows(
        database,
        "SELECT model_name, current_load, memory_usage_mb FROM telemetry_modelmetric ORDER BY 1",
    )
    assert found == [("model-0", 1.75, 0.0), ("model-1", 0.0, 2048.5)]


async def test_a_dead_conductors_load_is_forgotten(redis: Any, monkeypatch: Any) -> None:
    await tell_loads(redis, "alive", {"m": 1.0})
    monkeypatch.setattr("telemetry.loads.time.time", lambda: 1000.0)
    await tell_loads(redis, "dead", {"m": 5.0})
    monkeypatch.undo()
    assert await all_loads(redis) == {"m": 1.0}
    assert await redis.hkeys(redis_names.LOADS) == [b"alive"]

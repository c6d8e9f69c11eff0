"""Thresholds are told once, wherever the conductor that tells them dies."""

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from routing.engine.catalog import BudgetSpec, PolicyDocument
from routing.treasury import conductor
from routing.treasury.conductor import Thresholds
from telemetry import redis_names
from telemetry.database import AsyncConnection, connect
from telemetry.event_bus import EventBus
from telemetry.events import CostThresholdExceeded
from tests.waiting import soon

POLICY = PolicyDocument(
    budgets=(
        BudgetSpec(
            name="team", scope="all", period="day", limit_usd=Decimal(1), thresholds=(50, 80, 100)
        ),
    )
)
WINDOW = UUID("6ba7b812-9dad-51d1-80b4-00c04fd430c8")


class Crash(BaseException):
    """The conductor dies here."""


@pytest.fixture
async def passed(database: AsyncConnection) -> AsyncConnection:
    """A budget of which 85 % is spent."""
    await database.execute(
        "INSERT INTO routing_budgetwindow (id, budget, limit_nusd, spent_nusd, ends_at)"
        " VALUES (%s, 'team', 1000000000, 850000000, now() + interval '1 hour')",
        [WINDOW],
    )
    return database


async def stream(redis: Redis) -> Any:
    return await redis.xrange(redis_names.EVENTS_OUT)


async def told(redis: Redis) -> list[tuple[int, str]]:
    """Return the percents of the stream's events, with their ids."""
    entries = await stream(redis)
    return [(json.loads(e[b"payload"])["percent"], e[b"id"].decode()) for _, e in entries]


async def looked(publish: Any) -> None:
    """Look once, as a conductor of its own; what it had begun ends with it."""
    watching = Thresholds(publish)
    watching.adopt(POLICY)
    connection = await connect("tests")
    try:
        await watching.look(connection)
    finally:
        await connection.close()


async def untold(database: AsyncConnection) -> int:
    found = await database.execute("SELECT count(*) FROM routing_budgetalert WHERE told_at IS NULL")
    return int((await found.fetchone() or (0,))[0])


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("sent", [False, True])
async def test_a_conductor_that_dies_while_it_tells_loses_and_doubles_nothing(
    passed: AsyncConnection, redis: Redis, after: int, sent: bool
) -> None:
    bus, calls = EventBus(redis), 0

    async def dying(event: CostThresholdExceeded, **about: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls > after and not sent:
            raise Crash
        added = await bus.publish_once(event, **about)
        if calls > after and sent:
            raise Crash
        return added

    if after < 2:
        with pytest.raises(Crash):
            await looked(dying)
        assert await untold(passed) == 2
    else:
        await looked(dying)
    for _ in range(2):
        await looked(bus.publish_once)
    events = await told(redis)
    assert [percent for percent, _ in events] == [50, 80]
    assert len({event_id for _, event_id in events}) == 2
    assert await untold(passed) == 0


@pytest.mark.parametrize("statement", ["PASSED", "UNTOLD", "TOLD"])
async def test_a_conductor_that_dies_before_a_statement_loses_and_doubles_nothing(
    passed: AsyncConnection, redis: Redis, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    bus, dead = EventBus(redis), getattr(conductor, statement)
    execute = psycopg.AsyncConnection.execute

    async def dying(self: Any, query: Any, *args: Any, **more: Any) -> Any:
        if query == dead:
            raise Crash
        return await execute(self, query, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "execute", dying)
        with pytest.raises(Crash):
            await looked(bus.publish_once)
    await looked(bus.publish_once)
    assert [percent for percent, _ in await told(redis)] == [50, 80]
    assert await untold(passed) == 0


async def test_what_redis_forgot_comes_again_under_the_same_id(
    passed: AsyncConnection, redis: Redis
) -> None:
    bus = EventBus(redis)
    await looked(bus.publish_once)
    first = await told(redis)
    await redis.flushall()
    await passed.execute("UPDATE routing_budgetalert SET told_at = NULL")
    await looked(bus.publish_once)
    assert await told(redis) == first


async def test_while_redis_refuses_thresholds_wait(
    passed: AsyncConnection, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.set(redis_names.EVENTS_OUT, "not a stream")
    bus = EventBus(redis)
    with pytest.raises(RedisError):
        await looked(bus.publish_once)
    assert await untold(passed) == 2
    watching, stop = Thresholds(bus.publish_once), asyncio.Event()
    watching.adopt(POLICY)
    running = asyncio.create_task(watching.run(stop))
    await soon(lambda: "Thresholds wait, Redis refuses" in caplog.text, 20)
    await asyncio.sleep(2)
    await redis.delete(redis_names.EVENTS_OUT)
    for _ in range(500):
        if await untold(passed) == 0:
            break
        await asyncio.sleep(0.02)
    stop.set()
    await running
    assert await untold(passed) == 0
    assert caplog.text.count("Thresholds wait") == 1
    assert [percent for percent, _ in await told(redis)] == [50, 80]


async def test_an_event_that_is_sent_once_looks_like_any_other(redis: Redis) -> None:
    bus = EventBus(redis)
    event = CostThresholdExceeded("", 0.5, 0.5, budget="team", percent=50)
    assert await bus.publish_once(event, event_id=str(WINDOW), at=1.5)
    assert not await bus.publish_once(event, event_id=str(WINDOW), at=2.5)
    ((_, entry),) = await stream(redis)
    assert set(entry) == {b"name", b"payload", b"at", b"id"}
    assert (entry[b"name"], entry[b"at"]) == (
        b"cost.threshold_exceeded",
        b"1970-01-01T00:00:01.500000+00:00",
    )
    assert 0 < await redis.ttl(redis_names.EVENTS_SENT + str(WINDOW)) <= 30 * 86_400

"""The ledger in Redis against the engine's, and what it does when Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.coordination.reservations import RETRY_S, Reservations
from routing.engine.reservations import Granted, HostBusy, Joined, Ledger, Unavailable, Wish

# The test's own clock: it is set in a key that no ledger uses.
SET_CLOCK = "local now = tonumber(redis.call('GET', 'test:now'))\n"
HOST = "box"

keys = st.sampled_from(("x/here/a:1b#0", "x/here/b:7b#8192", "x/there/a:1b#0"))
small = st.integers(0, 3_000)
wishes = st.builds(
    Wish,
    key=keys,
    token=st.sampled_from(("t1", "t2")),
    need_mb=st.integers(0, 60),
    room_mb=st.integers(-10, 100),
    age_ms=small,
    expected_ms=small,
    ttl_ms=st.integers(1, 3_000),
)
tokens = st.sampled_from(("t1", "t2"))
steps = st.lists(
    st.tuples(
        small,
        st.one_of(
            st.tuples(st.just("reserve"), wishes),
            st.tuples(st.just("renew"), keys, tokens, st.integers(1, 3_000)),
            st.tuples(st.sampled_from(("settle", "release")), keys, tokens),
        ),
    ),
    max_size=25,
)


def by_engine(ledger: Ledger, now: int, what: str, args: tuple[Any, ...]) -> object:
    return getattr(ledger, what)(*args, now)


@given(steps=steps)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_script_and_the_engine_always_say_the_same(
    redis_url: str, steps: list[tuple[int, tuple[Any, ...]]]
) -> None:
    async def run() -> None:
        shared = Reservations(redis_url, redis_clock=SET_CLOCK)
        ledger, now = Ledger(), 1_800_000_000_000
        try:
            async with redis.asyncio.Redis.from_url(redis_url) as client:
                await client.flushdb()
                for passed, (what, *args) in steps:
                    now += passed
                    await client.set("test:now", now)
                    told = await getattr(shared, what)(HOST, *args)
                    assert told == by_engine(ledger, now, what, tuple(args))
        finally:
            await shared.close()

    asyncio.run(run())


@pytest.fixture
async def pair(redis_url: str) -> AsyncIterator[tuple[Reservations, Reservations]]:
    """Two workers' access to the same ledgers."""
    one, other = Reservations(redis_url, node="n1"), Reservations(redis_url, node="n2")
    yield one, other
    await one.close()
    await other.close()


def wish(key: str, token: str, **more: int) -> Wish:
    told = {"need_mb": 10, "room_mb": 100, "ttl_ms": 60_000, **more}
    return Wish(key=key, token=token, **told)


async def test_workers_see_each_others_loads(pair: tuple[Reservations, Reservations]) -> None:
    one, other = pair
    assert await one.reserve("box", wish("a", "t1", expected_ms=5_000)) == Granted("t1")
    busy = await other.reserve("box", wish("b", "t2"))
    assert isinstance(busy, HostBusy)
    assert 4_000 < busy.wait_ms <= 5_000
    joined = await other.reserve("box", wish("a", "t2"))
    assert isinstance(joined, Joined)
    assert joined.token == "t1"


async def test_each_nodes_local_host_is_its_own(pair: tuple[Reservations, Reservations]) -> None:
    one, other = pair
    assert isinstance(await one.reserve("local", wish("a", "t1")), Granted)
    assert isinstance(await other.reserve("local", wish("b", "t2")), Granted)


async def test_a_worker_that_dies_is_forgotten(pair: tuple[Reservations, Reservations]) -> None:
    one, other = pair
    await one.reserve("box", wish("a", "t1", ttl_ms=100))
    await asyncio.sleep(0.15)
    assert isinstance(await other.reserve("box", wish("b", "t2")), Granted)


async def test_without_redis_nothing_is_promised_and_nobody_waits_twice() -> None:
    now = 0.0
    away = Reservations("redis://127.0.0.1:1", clock=lambda: now)
    assert await away.reserve("box", wish("a", "t1")) == Unavailable()
    away._script = None  # type: ignore[assignment]  # whoever asks now would fail
    assert await away.reserve("box", wish("a", "t1")) == Unavailable()
    assert not await away.renew("box", "a", "t1", 1)
    now = RETRY_S
    with pytest.raises(TypeError):
        await away.reserve("box", wish("a", "t1"))
    await away.close()

"""What a passage lets through: nothing that Redis counts as spent by now."""

import asyncio
import math
import time

import pytest

from routing.coordination.rates import RateKeeper
from routing.engine.catalog import KeySpec, PolicyDocument, TenantSpec
from routing.engine.rate_lease import TTL_S, Lease
from routing.engine.rates import Grant, Limit
from routing.lanes.tolls import BOOK_S, LOOK_S, Passage, Tolls


def leased(name: str, now: float) -> Lease:
    lease = Lease(Limit(of="key", owner="ci", name=name, most=1000), "web-0")
    said = Grant(units=100, left=900, owed_us=0, wait_us=0, others=0, born_us=1)
    lease.hear(now, now, lease.state(now), said)
    return lease


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_day", "concurrent_streams"])
def test_what_lapsed_is_not_spent(name: str) -> None:
    other = leased("requests_per_day", 1_000.0)
    other.until = math.inf
    lease = leased(name, 0.0)
    passage = Passage([other, lease])
    assert passage.is_open(5, 0.0, stream=True)
    assert passage.is_open(5, lease.until - 0.001, stream=True)
    assert lease.until < TTL_S
    assert not passage.is_open(5, lease.until, stream=True)
    assert not passage.is_open(5, lease.until + 100, stream=True)


def test_an_end_that_comes_sooner_than_expected_is_seen_within_a_moment() -> None:
    lease = leased("requests_per_minute", 0.0)
    passage = Passage([lease])
    assert passage.is_open(5, 0.0, stream=False)
    lease.until = 0.1
    assert passage.is_open(5, 0.099, stream=False)
    assert not passage.is_open(5, 0.1 + LOOK_S, stream=False)


def test_what_costs_more_than_there_ever_is_passes_when_all_of_it_is_there() -> None:
    lease = leased("tokens_per_minute", 0.0)
    passage = Passage([lease])
    assert not passage.is_open(lease.burst + 1, 0.0, stream=False)
    lease.held = lease.burst
    assert passage.is_open(lease.burst + 1, 0.0, stream=False)


PLENTY = 10_000


def two_callers() -> Tolls:
    """Return the tolls of two keys, whose tenant's limits they share; each lease holds PLENTY."""
    keeper = RateKeeper("redis://nobody", "web-0", time.monotonic)
    tolls = Tolls(keeper, time.monotonic)
    most = {"requests_per_minute": 10**9, "tokens_per_day": 10**9, "concurrent_streams": 10}
    owner = TenantSpec(name="t", **most)  # type: ignore[arg-type]
    keys = tuple(
        KeySpec(name=name, tenant="t", prefix="ao_", digest=name * 64, requests_per_day=10**9)
        for name in ("a", "b")
    )
    tolls.adopt(PolicyDocument(tenants=(owner,), keys=keys))
    for name in ("a", "b"):
        tolls.passage("t", name)
    now = time.monotonic()
    for lease in keeper.leases:
        units = PLENTY if lease.limit.period_us else 10
        said = Grant(units=units, left=10**9, owed_us=0, wait_us=0, others=0, born_us=1)
        lease.hear(now, now, lease.state(now), said)
    return tolls


def passage(tolls: Tolls, key: str) -> Passage:
    found = tolls.passage("t", key)
    assert found is not None
    return found


async def test_units_are_taken_ahead_for_a_moment() -> None:
    tolls = two_callers()
    a = passage(tolls, "a")
    under_way = [await tolls.enter("t", "a", 10, stream=False)]
    held = [lease.held for lease in a.timed]
    assert max(held) < PLENTY
    under_way += [await tolls.enter("t", "a", 10, stream=False) for _ in range(20)]
    assert [lease.held for lease in a.timed] == held
    for toll in under_way[:5]:
        assert toll is not None
        toll.settle(10, 4)
    # Long before any lease is told to Redis again.
    await asyncio.sleep(2 * BOOK_S)
    assert a.book is None
    assert [lease.held for lease in a.requests] == [PLENTY - 21] * 2
    assert [lease.held for lease in a.tokens] == [PLENTY - 5 * 4 - 16 * 10]
    for toll in under_way[5:]:
        assert toll is not None
        toll.settle(10, 10)
    assert [(lease.held, lease.out) for lease in a.tokens] == [(PLENTY - 5 * 4 - 16 * 10, 0)]


async def test_answers_tell_of_what_is_left_whoever_took_it_ahead() -> None:
    tolls = two_callers()
    a = passage(tolls, "a")
    left = []
    for _ in range(3):
        await tolls.enter("t", "a", 10, stream=False)
        left.append([a.left(lease, time.monotonic()) for lease in a.requests])
    assert a.book is not None
    assert left[0][0] - left[1][0] == left[1][0] - left[2][0] == 1


async def test_who_is_short_finds_what_others_took_ahead() -> None:
    tolls = two_callers()
    await tolls.enter("t", "a", 10, stream=False)
    (shared,) = set(passage(tolls, "a").tokens)
    ahead = shared.out - 10
    shared.held = 0
    # At once: it waits for nobody.
    with pytest.raises(StopIteration):
        tolls.enter("t", "b", ahead, stream=False).send(None)
    assert passage(tolls, "a").book is None
    assert shared.held == 0


async def test_what_is_taken_ahead_ends_with_its_lease() -> None:
    tolls = two_callers()
    a = passage(tolls, "a")
    a.requests[0].until = time.monotonic() + BOOK_S / 5
    await tolls.enter("t", "a", 10, stream=False)
    assert a.book is not None
    assert a.book.ends_at == a.requests[0].until


async def test_streams_that_are_counted_are_counted_each() -> None:
    tolls = two_callers()
    (streams,) = passage(tolls, "a").streams
    tolled = [await tolls.enter("t", "a", 10, stream=True)]
    assert passage(tolls, "a").book is None
    await tolls.enter("t", "a", 10, stream=False)
    assert passage(tolls, "a").book is not None
    tolled += [await tolls.enter("t", "a", 10, stream=True) for _ in range(2)]
    assert streams.held == 7
    for toll in tolled:
        assert toll is not None
        toll.settle(10, 10)
    assert streams.held == 10


async def test_another_policy_ends_what_was_taken_ahead() -> None:
    tolls = two_callers()
    await tolls.enter("t", "a", 10, stream=False)
    lease = passage(tolls, "a").tokens[0]
    tolls.adopt(PolicyDocument())
    assert lease.held == PLENTY - 10

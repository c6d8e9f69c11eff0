"""What a passage lets through: nothing that Redis counts as spent by now."""

import math

import pytest

from routing.engine.rate_lease import TTL_S, Lease
from routing.engine.rates import Grant, Limit
from routing.lanes.tolls import LOOK_S, Passage


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

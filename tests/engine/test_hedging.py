"""When a second attempt may be made beside a slow one, and at whom."""

from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine.durations import KEPT, LEAST, STALE_AFTER, Durations
from routing.engine.hedging import EARNING_REQUESTS, HedgeBudget, second
from routing.engine.policy import Candidate
from tests.cast import CLOUD, HERE, PLAIN, SAGE, TINY, Fleet, document, priced

MS = st.floats(0, 1e6)


def durations(*took_ms: float) -> Durations:
    made = Durations()
    for ms in took_ms:
        made.add(ms)
    return made


def test_nothing_is_slow_before_enough_is_known() -> None:
    known = durations(*[5.0] * (LEAST - 1))
    assert known.slow_ms() is None
    known.add(5.0)
    assert known.slow_ms() == 5.0


@given(st.lists(MS, min_size=LEAST, max_size=3 * KEPT))
def test_slow_is_the_95th_percentile_of_the_newest(took_ms: list[float]) -> None:
    newest = sorted(took_ms[-KEPT:])
    assert durations(*took_ms).slow_ms() == newest[ceil(0.95 * len(newest)) - 1]


def test_what_is_slow_follows_the_times() -> None:
    known = durations(*[10.0] * KEPT)
    assert known.slow_ms() == 10.0
    for _ in range(max(STALE_AFTER, KEPT // 20 + 1)):
        known.add(400.0)
    assert known.slow_ms() == 400.0


def test_ending_what_is_slow_makes_nothing_else_slow() -> None:
    """A second attempt always wins: without what it ended, the percentile would sink and sink."""
    known, slow = durations(*(float(ms) for ms in range(1, 101))), []
    for round_ in range(1000):
        took_ms = float(round_ % 100 + 1)
        wait_ms = known.slow_ms() or 0.0
        slow.append(took_ms > wait_ms)
        if slow[-1]:
            known.add_unfinished(wait_ms + 1)
        else:
            known.add(took_ms)
    assert 0.02 < sum(slow) / len(slow) < 0.08


def test_what_was_ended_early_says_nothing() -> None:
    known = durations(*[10.0] * LEAST)
    for _ in range(KEPT):
        known.add_unfinished(1.0)
    assert known.slow_ms() == 10.0


@given(st.lists(st.booleans(), max_size=400), st.floats(0, 100))
def test_hedges_stay_within_their_percent(events: list[bool], percent: float) -> None:
    budget, requests, hedges = HedgeBudget(), 0, 0
    for is_request in events:
        if is_request:
            requests += 1
            budget.earn(percent)
        else:
            hedges += budget.spend()
        assert hedges <= percent / 100 * requests + 1e-9


@pytest.mark.parametrize(("percent", "allowed"), [(5, 50), (100, 1000), (0.01, 1)])
def test_a_quiet_time_saves_up_only_so_much(percent: float, allowed: int) -> None:
    budget = HedgeBudget()
    for _ in range(20 * EARNING_REQUESTS):
        budget.earn(percent)
    assert sum(budget.spend() for _ in range(2 * EARNING_REQUESTS)) == allowed


def test_what_was_not_made_costs_nothing() -> None:
    budget = HedgeBudget()
    budget.earn(100)
    assert budget.spend()
    assert not budget.spend()
    budget.refund()
    assert budget.spend()


def beside(fleet: Fleet, *asked: str, **need: Any) -> str | None:
    """Return whom `second` names beside the choice."""
    decision = fleet.decide(**need)
    first = decision.chosen
    found = second(fleet.policy, fleet.state, decision, first, asked, fleet.clock)
    return found.id if found else None


def fleet_of(*models: object) -> Fleet:
    """Everything is loaded at both endpoints; only `here` is a machine with a queue."""
    fleet = Fleet.of(document(models, (CLOUD, HERE)))  # type: ignore[arg-type]
    fleet.measure("local", available_gb=32, total_gb=64)
    fleet.probe("here", loaded=frozenset(m.name for m in models))  # type: ignore[attr-defined]
    return fleet


def test_the_same_model_elsewhere_comes_first() -> None:
    assert beside(fleet_of(TINY, PLAIN), model="plain") == "plain@here"
    assert beside(fleet_of(TINY, PLAIN), "plain@here", floor=1) is None


def test_nobody_is_asked_who_would_have_to_load() -> None:
    fleet = fleet_of(PLAIN)
    fleet.probe("here", loaded=frozenset())
    assert beside(fleet) is None


def test_nobody_is_asked_where_others_wait() -> None:
    fleet = fleet_of(PLAIN)
    assert fleet.decide().chosen.id == "plain@cloud"
    assert beside(fleet) == "plain@here"
    fleet.live("plain@here").in_flight = 1
    assert beside(fleet) is None


def test_nobody_is_asked_whose_breaker_is_not_closed() -> None:
    fleet = fleet_of(PLAIN)
    fleet.trip("plain@here")
    fleet.now += 1000
    assert beside(fleet) is None


def test_slowness_lowers_no_quality() -> None:
    fleet = fleet_of(SAGE, TINY)
    fleet.trip("sage@here")
    assert beside(fleet, floor=3, priority="critical") is None
    assert beside(fleet, floor=0, priority="critical") is not None


def test_who_names_a_model_gets_no_other() -> None:
    fleet = fleet_of(SAGE, PLAIN)
    fleet.trip("plain@here")
    assert beside(fleet, model="plain") is None


@pytest.mark.parametrize(("limit_nusd", "found"), [(399, None), (400, "plain@here")])
def test_both_are_within_the_cost_limit(limit_nusd: int, found: str | None) -> None:
    fleet = fleet_of(priced(PLAIN, "0.000001"))
    told = {"prompt_tokens": 100, "max_tokens": 100, "cost_limit_nusd": limit_nusd}
    assert beside(fleet, **told) == found


def test_a_policy_that_came_meanwhile_has_no_say() -> None:
    fleet, other = fleet_of(PLAIN), fleet_of(PLAIN)
    decision = fleet.decide()
    first: Candidate = decision.chosen
    assert second(other.policy, other.state, decision, first, (), other.clock) is None

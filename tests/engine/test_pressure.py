"""Levels of pressure do not flap, and say what may be loaded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine.catalog import PolicyDocument
from routing.engine.errors import NoCandidate
from routing.engine.pressure import LEVELS, MARGIN, THRESHOLDS, level_of, may_load, next_level
from tests.cast import HERE, Fleet, document, model

pressures = st.floats(0, 1)


@given(st.lists(pressures, min_size=1, max_size=40))
def test_a_level_is_never_below_the_threshold_nor_far_above_it(course: list[float]) -> None:
    level = "normal"
    for pressure in course:
        level = next_level(level, pressure)
        assert LEVELS.index(level_of(pressure)) <= LEVELS.index(level)
        assert LEVELS.index(level) <= LEVELS.index(level_of(pressure + MARGIN))


@given(
    st.sampled_from([threshold for threshold, _ in THRESHOLDS[:3]]),
    st.lists(st.floats(-0.04, 0.049), min_size=2, max_size=60),
)
def test_a_value_about_a_threshold_changes_level_at_most_once(
    threshold: float, noise: list[float]
) -> None:
    levels = ["normal"]
    for offset in noise:
        levels.append(next_level(levels[-1], threshold + offset))
    rising = levels[1:]
    assert sum(a != b for a, b in zip(rising, rising[1:], strict=False)) <= 1


@given(pressures)
def test_a_level_does_not_depend_on_how_often_it_is_looked_at(pressure: float) -> None:
    for before in LEVELS:
        once = next_level(before, pressure)
        assert next_level(once, pressure) == once


@pytest.mark.parametrize(
    ("level", "loads"),
    [
        ("normal", ["low", "normal", "high", "critical"]),
        ("elevated", ["low", "normal", "high", "critical"]),
        ("high", ["normal", "high", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_tight_memory_is_for_the_urgent(level: str, loads: list[str]) -> None:
    ranks = ["low", "normal", "high", "critical"]
    assert [rank for rank in ranks if may_load(level, rank)] == loads


class TestDecisions:
    @pytest.fixture
    def policy(self) -> PolicyDocument:
        return document((model("tiny", ram_required_gb=0.1),), (HERE,))

    def test_a_cold_load_of_low_priority_is_refused_at_high(self, policy: PolicyDocument) -> None:
        fleet = Fleet.of(policy)
        fleet.measure("local", available_gb=1.9, total_gb=10)
        assert fleet.decide(priority="normal").chosen.id == "tiny@here"
        assert refused(fleet, priority="low") == ["memory_pressure"]

    def test_only_critical_requests_load_at_critical(self, policy: PolicyDocument) -> None:
        fleet = Fleet.of(policy)
        fleet.measure("local", available_gb=0.9, total_gb=10)
        assert refused(fleet, priority="high") == ["memory_pressure"]
        assert fleet.decide(priority="critical").chosen.id == "tiny@here"

    def test_a_loaded_model_answers_however_tight_it_is(self, policy: PolicyDocument) -> None:
        fleet = Fleet.of(policy)
        fleet.measure("local", available_gb=0.0, total_gb=10)
        fleet.probe("here", up=True, loaded=frozenset(("tiny:latest",)))
        assert fleet.decide(priority="low").chosen.id == "tiny@here"


def refused(fleet: Fleet, **need: str) -> list[str]:
    with pytest.raises(NoCandidate) as caught:
        fleet.decide(**need)
    return [rejection.reason for rejection in caught.value.rejections]

"""Second attempts come after what is usual, and within their share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine.hedging import KEEP, LEAST, MOST_SAVED, HedgeBudget, Latencies


def test_a_percentile_is_not_guessed() -> None:
    times = Latencies()
    for _ in range(LEAST - 1):
        times.add(5.0)
    assert times.p95() is None
    times.add(5.0)
    assert times.p95() == 5.0


def test_the_percentile_is_that_of_the_last_hundred() -> None:
    times = Latencies()
    for ms in range(1000, 1000 + KEEP):
        times.add(ms)
    assert times.p95() == 1094
    for ms in range(1, KEEP + 1):
        times.add(ms)
    assert times.p95() == 95


@given(st.floats(0, 100), st.lists(st.booleans(), max_size=400))
def test_second_attempts_never_exceed_their_share(percent: float, slow: list[bool]) -> None:
    budget, made = HedgeBudget(), 0
    for count, is_slow in enumerate(slow, 1):
        budget.earn(percent)
        made += is_slow and budget.spend()
        assert made <= count * percent / 100 + 1e-6


@pytest.mark.parametrize("percent", [1.0, 10.0, 33.3])
def test_the_share_can_be_used_up(percent: float) -> None:
    budget, made = HedgeBudget(), 0
    for _ in range(1000):
        budget.earn(percent)
        made += budget.spend()
    assert made == pytest.approx(10 * percent, abs=1)


def test_what_is_saved_is_bounded() -> None:
    budget = HedgeBudget()
    for _ in range(100_000):
        budget.earn(100)
    assert sum(budget.spend() for _ in range(1000)) == MOST_SAVED

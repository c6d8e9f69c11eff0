"""Periods follow each other without a gap or an overlap, whatever the clocks do."""

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine.catalog import BudgetSpec
from routing.engine.windows import Window, window_of

# Changes by an hour, by half an hour, at midnight, a minute after it, and by a whole day.
ZONES = (
    "UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
    "America/Sao_Paulo", "Asia/Beirut", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca",
)  # fmt: skip
PERIODS = ("hour", "day", "week", "month")
zones, periods = st.sampled_from(ZONES), st.sampled_from(PERIODS)
instants = st.integers(500_000_000, 2_200_000_000)


def at(instant: float, period: Any, zone: str = "UTC") -> Window:
    spec = BudgetSpec(name="b", scope="all", period=period, time_zone=zone, limit_usd=Decimal(1))
    return window_of(spec, instant)


def epoch(text: str, zone: str) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@given(instant=instants, period=periods, zone=zones)
def test_every_instant_is_in_one_window_and_its_edges_touch(
    instant: int, period: str, zone: str
) -> None:
    window = at(instant, period, zone)
    assert window.ends_at is not None
    assert window.starts_at <= instant < window.ends_at
    assert at(window.starts_at, period, zone) == window
    assert at(window.ends_at - 1, period, zone) == window
    following = at(window.ends_at, period, zone)
    assert following.starts_at == window.ends_at
    before = at(window.starts_at - 1, period, zone)
    assert before.ends_at == window.starts_at
    assert len({window.id, following.id, before.id}) == 3


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)]
)
def test_a_day_is_as_long_as_its_clock_says(day: str, hours: int) -> None:
    window = at(epoch(f"{day}T12:00", "Europe/Zurich"), "day", "Europe/Zurich")
    assert window.ends_at is not None
    assert (window.ends_at - window.starts_at) == hours * 3600


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    noon = epoch("2026-11-27T12:00", "UTC")
    assert at(noon, "week").starts_at == epoch("2026-11-23T00:00", "UTC")
    month = at(noon, "month", "Asia/Kolkata")
    assert month.starts_at == epoch("2026-11-01T00:00", "Asia/Kolkata")
    assert month.ends_at == epoch("2026-12-01T00:00", "Asia/Kolkata")


def test_a_total_never_ends() -> None:
    window = at(epoch("2026-11-27T12:00", "UTC"), "total")
    assert (window.starts_at, window.ends_at) == (0, None)
    assert window.holds(10**12)

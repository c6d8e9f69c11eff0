"""The times a budget counts by: hours, days, weeks and months of a time zone.

Windows of one budget follow each other without a gap or an overlap, through changes of the clock:
each begins at an instant, and ends where the next one begins.
"""

import datetime as dt
import math
import uuid
from collections.abc import Callable
from zoneinfo import ZoneInfo

import msgspec

from routing.engine.catalog import BudgetPeriod, BudgetSpec

HOUR_S = 3600
# Any constant: a window's id is the same in every process that works it out.
_NAMESPACE = uuid.UUID("6f726368-6573-7472-612d-627564676574")


class Window(msgspec.Struct, frozen=True):
    """One period of one budget; times are whole seconds since the epoch, `ends_at` excluded."""

    id: bytes  # 16 bytes, the UUID that PostgreSQL knows it by
    budget: str
    period: BudgetPeriod
    starts_at: int
    ends_at: int | None  # None: it never ends

    def holds(self, at_s: float) -> bool:
        return self.starts_at <= at_s and (self.ends_at is None or at_s < self.ends_at)


def window_of(budget: BudgetSpec, at_s: float) -> Window:
    """Return the window of `budget` that the instant `at_s` (epoch) falls in."""
    start, end = _bounds(budget.period, ZoneInfo(budget.time_zone), at_s)
    name = f"{budget.name}\0{budget.period}\0{start}"
    return Window(uuid.uuid5(_NAMESPACE, name).bytes, budget.name, budget.period, start, end)


def _bounds(period: BudgetPeriod, zone: ZoneInfo, at_s: float) -> tuple[int, int | None]:
    if period == "total":
        return 0, None
    if period == "hour":
        start, end = _around(zone, at_s, _day, 1)
        # Counted from midnight: a change of the clock by half an hour shortens the day's last one.
        hour = start + int((at_s - start) // HOUR_S) * HOUR_S
        return hour, min(hour + HOUR_S, end)
    first, days = {"day": (_day, 1), "week": (_monday, 7), "month": (_month, 32)}[period]
    return _around(zone, at_s, first, days)


def _around(
    zone: ZoneInfo, at_s: float, first: Callable[[dt.date], dt.date], days: int
) -> tuple[int, int]:
    """Return the first day's midnight at or before `at_s`, and the next one after it."""
    day = first(dt.datetime.fromtimestamp(at_s, zone).date())
    # Where midnight itself is turned back, an instant's date may be the day before or after.
    if at_s < _midnight(day, zone):
        day = first(day - dt.timedelta(days=1))
    following = first(day + dt.timedelta(days=days))
    if at_s >= _midnight(following, zone):
        day, following = following, first(following + dt.timedelta(days=days))
    return _midnight(day, zone), _midnight(following, zone)


def _midnight(day: dt.date, zone: ZoneInfo) -> int:
    """Return when a day begins; one whose midnight is skipped begins with the skip."""
    return math.floor(dt.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _day(day: dt.date) -> dt.date:
    return day


def _monday(day: dt.date) -> dt.date:
    return day - dt.timedelta(days=day.weekday())


def _month(day: dt.date) -> dt.date:
    return day.replace(day=1)

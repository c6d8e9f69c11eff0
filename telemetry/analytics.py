"""What requests cost in a period, and what the baseline would have cost instead.

Made of sums: whole days from the table of days, what is left at both ends from that of hours, so
that a year is as quick to read as a day. No request itself is ever looked at.
"""

import datetime as dt
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from django.db import connection

Group = Literal["tenant", "model", "task", "day"]

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
MOST_GROUPS = 1000
# Which column a report can be grouped or narrowed by.
COLUMN: dict[str, str] = {"tenant": "tenant", "model": "model_name", "task": "task_type"}


@dataclass(frozen=True, slots=True)
class Period:
    """Whole hours from `start` up to, without, `end`; both in UTC."""

    start: dt.datetime
    end: dt.datetime

    @classmethod
    def of(cls, start: dt.datetime, end: dt.datetime) -> "Period":
        """Return the shortest period of whole hours that holds both."""
        first = start.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
        last = end.astimezone(dt.UTC)
        ended = last.replace(minute=0, second=0, microsecond=0)
        return cls(first, ended if ended == last else ended + HOUR)

    @property
    def days(self) -> tuple[dt.datetime, dt.datetime]:
        """Return where the whole days in it begin and end; the same moment where there is none."""
        first = self.start.replace(hour=0)
        first = first if first == self.start else first + DAY
        last = self.end.replace(hour=0)
        return (first, last) if first < last else (self.end, self.end)


@dataclass(slots=True)
class Compared:
    """Requests whose cost and whose baseline's cost are both known, in nano-dollars."""

    count: int = 0
    cost_nusd: int = 0
    baseline_nusd: int = 0

    @property
    def saved_nusd(self) -> int:
        """Return what was saved; negative where the baseline would have been cheaper."""
        return self.baseline_nusd - self.cost_nusd

    @property
    def saved_percent(self) -> float | None:
        """Return the saving in percent of the baseline; None where that costs nothing."""
        if self.baseline_nusd == 0:
            return None
        return round(100 * self.saved_nusd / self.baseline_nusd, 2)

    def plus(self, other: "Compared") -> "Compared":
        return Compared(
            self.count + other.count,
            self.cost_nusd + other.cost_nusd,
            self.baseline_nusd + other.baseline_nusd,
        )


@dataclass(slots=True)
class Spent:
    """What one group of requests did and cost."""

    requests: int = 0
    successes: int = 0
    fallbacks: int = 0
    simulated: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nusd: int = 0
    cost_unknown: int = 0
    measured: Compared = field(default_factory=Compared)
    estimated: Compared = field(default_factory=Compared)
    uncompared: int = 0

    @property
    def compared(self) -> Compared:
        return self.measured.plus(self.estimated)

    def add(self, other: "Spent") -> None:
        """Add another group."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.measured = self.measured.plus(other.measured)
        self.estimated = self.estimated.plus(other.estimated)


_NUMBERS = [f.name for f in fields(Spent) if f.name not in ("measured", "estimated")]


@dataclass(frozen=True, slots=True)
class Report:
    """The groups of a period, and all of them together."""

    period: Period
    total: Spent
    groups: list[tuple[str, Spent]]
    more: int  # groups that were left out, the least costly ones; they count in the total


_SUMS = ", ".join(
    f"sum({name})::bigint"
    for name in (
        "request_count", "success_count", "fallback_count", "simulated_count", "prompt_tokens",
        "cached_tokens", "completion_tokens", "cost_nusd", "cost_unknown_count",
        "measured_count", "measured_cost_nusd", "measured_baseline_nusd",
        "estimated_count", "estimated_cost_nusd", "estimated_baseline_nusd", "uncompared_count",
    )
)  # fmt: skip


def report(period: Period, group: Group, only: dict[str, str]) -> Report:
    """Return what was spent in a period; `only` narrows it, by the keys of COLUMN.

    Days come in order; anything else the most expensive first, then by name.
    """
    sql, values = _query(period, group, only)
    groups: dict[str, Spent] = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        for key, *sums in cursor.fetchall():
            groups.setdefault(key, Spent()).add(_spent(sums))
    total = Spent()
    for spent in groups.values():
        total.add(spent)
    ordered = sorted(groups.items())
    if group != "day":
        ordered.sort(key=lambda one: -one[1].cost_nusd)
    return Report(period, total, ordered[:MOST_GROUPS], max(0, len(ordered) - MOST_GROUPS))


def _query(period: Period, group: Group, only: dict[str, str]) -> tuple[str, dict[str, Any]]:
    first, last = period.days
    named = "to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    key = named if group == "day" else COLUMN[group]
    narrowed = "".join(f" AND {COLUMN[name]} = %({name})s" for name in only)
    parts = [
        ("hour", "started_at >= %(start)s AND started_at < %(first)s"),
        ("day", "started_at >= %(first)s AND started_at < %(last)s"),
        ("hour", "started_at >= %(last)s AND started_at < %(end)s"),
    ]
    # Each part is summed by itself: a group may come from all three.
    union = " UNION ALL ".join(
        f"SELECT {key} AS key, {_SUMS} FROM telemetry_request{unit}"  # noqa: S608 - our names
        f" WHERE {where}{narrowed} GROUP BY key"
        for unit, where in parts
    )
    values = {"start": period.start, "first": first, "last": last, "end": period.end, **only}
    return union, values


def _spent(row: list[int]) -> Spent:
    *counts, uncompared = row
    spent = Spent(uncompared=uncompared)
    for name, value in zip(_NUMBERS, counts[:9], strict=False):
        setattr(spent, name, value)
    spent.measured, spent.estimated = Compared(*counts[9:12]), Compared(*counts[12:15])
    return spent

"""How every budget stands: spent, held, and where it is going by the end of its period."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Q, Sum

from routing.engine.catalog import BudgetSpec
from routing.engine.money import to_nusd
from routing.engine.windows import Window, window_of
from routing.models import ApiKey, Budget, BudgetSpend, BudgetWindow, StrayCharge

# Earlier than this into a period, what was spent says nothing about its end.
LEAST_ELAPSED_S = 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """What was spent of a period until `at`, in nano-dollars."""

    at: dt.datetime
    spent_nusd: int


@dataclass(frozen=True, slots=True)
class Standing:
    """One budget in its present period; `forecast_nusd` is None where nobody can say."""

    budget: BudgetSpec
    window: Window
    limit_nusd: int
    spent_nusd: int
    held_nusd: int
    overrun_nusd: int
    forecast_nusd: int | None
    series: list[Point] = field(default_factory=list)

    @property
    def remaining_nusd(self) -> int:
        return max(0, self.limit_nusd - self.spent_nusd - self.held_nusd)

    @property
    def exhausted(self) -> bool:
        return self.spent_nusd >= self.limit_nusd

    @property
    def starts_at(self) -> dt.datetime:
        return _at(self.window.starts_at)

    @property
    def ends_at(self) -> dt.datetime | None:
        return None if self.window.ends_at is None else _at(self.window.ends_at)


def standings(now: dt.datetime, budgets: Sequence[Budget] | None = None) -> list[Standing]:
    """Return how the given budgets stand at `now`, or all that are enabled, by name."""
    rows = Budget.objects.filter(enabled=True) if budgets is None else budgets
    specs = sorted((row.spec() for row in rows), key=lambda spec: spec.name)
    windows = [window_of(spec, now.timestamp()) for spec in specs]
    stored = BudgetWindow.objects.in_bulk([UUID(bytes=window.id) for window in windows])
    series = _series(list(stored))
    return [
        _standing(spec, window, stored.get(UUID(bytes=window.id)), series, now)
        for spec, window in zip(specs, windows, strict=True)
    ]


def of_tenant(tenant: str) -> list[Budget]:
    """Return the enabled budgets that a tenant may see: its own, its keys', and everybody's."""
    own = Q(scope="tenant", subject=tenant)
    keys = Q(scope="key", subject__in=ApiKey.objects.filter(tenant__name=tenant).values("name"))
    return list(Budget.objects.filter(own | keys | Q(scope="all"), enabled=True))


def stray_nusd() -> int:
    """Return what was charged to leases and periods that were gone: it is in no budget."""
    return int(StrayCharge.objects.aggregate(sum=Sum("nusd"))["sum"] or 0)


def _standing(
    spec: BudgetSpec,
    window: Window,
    row: BudgetWindow | None,
    series: dict[UUID, list[Point]],
    now: dt.datetime,
) -> Standing:
    spent = row.spent_nusd if row else 0
    return Standing(
        budget=spec,
        window=window,
        limit_nusd=to_nusd(spec.limit_usd) or 0,
        spent_nusd=spent,
        held_nusd=row.leased_nusd if row else 0,
        overrun_nusd=row.overrun_nusd if row else 0,
        forecast_nusd=forecast_nusd(window, spent, now.timestamp()),
        series=series.get(UUID(bytes=window.id), []),
    )


def forecast_nusd(window: Window, spent_nusd: int, now_s: float) -> int | None:
    """Return what will be spent by the window's end if it goes on as it did since its start.

    None for a window without an end, and in its first minute.
    """
    elapsed_s = now_s - window.starts_at
    if window.ends_at is None or elapsed_s < LEAST_ELAPSED_S:
        return None
    # In whole numbers: a float is exact to nine million dollars only.
    length_ms = (window.ends_at - window.starts_at) * 1000
    return spent_nusd * length_ms // int(elapsed_s * 1000)


def _series(ids: Sequence[UUID]) -> dict[UUID, list[Point]]:
    """Return the growing sums of what was settled, by window."""
    found: dict[UUID, list[Point]] = {}
    for row in BudgetSpend.objects.filter(window_id__in=ids).order_by("window_id", "at"):
        points = found.setdefault(row.window_id, [])
        before = points[-1].spent_nusd if points else 0
        points.append(Point(row.at, before + row.nusd))
    return found


def _at(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)

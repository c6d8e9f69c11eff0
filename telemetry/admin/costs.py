"""Costs and savings in Django admin: the report of the API, for people."""

import datetime as dt
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from telemetry.admin.base import ReadOnlyAdmin
from telemetry.analytics import COLUMN, Compared, Group, Period, Report, Spent, report
from telemetry.models import RequestDay

SPANS = {"1": "24 hours", "7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
GROUPS: tuple[Group, ...] = ("model", "tenant", "task", "day")
NOBODY = {"tenant": "no tenant", "model": "no model", "task": "no task"}
SHOWN_GROUPS = 200
CHART_PX = 120


class Asked(forms.Form):
    """What to report on; anything odd is put right by the defaults, for this is a page."""

    days = forms.ChoiceField(choices=list(SPANS.items()), required=False)
    by = forms.ChoiceField(choices=[(g, g) for g in GROUPS], required=False)
    tenant = forms.CharField(required=False)
    model = forms.CharField(required=False)
    task = forms.CharField(required=False)

    @property
    def days_back(self) -> int:
        return int(self._given("days") or 30)

    @property
    def group(self) -> Group:
        given = self._given("by")
        return next((g for g in GROUPS if g == given), "model")

    @property
    def only(self) -> dict[str, str]:
        return {name: given for name in COLUMN if (given := self._given(name))}

    def link(self, **changes: str) -> str:
        """Return the address of the same report with some of it changed; "" leaves a part out."""
        now = {"days": str(self.days_back), "by": self.group, **self.only, **changes}
        return "?" + urlencode({name: value for name, value in now.items() if value})

    def _given(self, name: str) -> str:
        self.is_valid()
        value: str = self.cleaned_data.get(name, "")
        return value


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of the chart: heights in pixels."""

    day: str
    cost: str
    baseline: str
    cost_px: int
    baseline_px: int


@dataclass(frozen=True, slots=True)
class Row:
    """One group of the table."""

    name: str
    link: str
    requests: str
    prompt_tokens: str
    completion_tokens: str
    cost: str
    baseline: str
    saved: str
    percent: str
    is_loss: bool


@admin.register(RequestDay)
class CostsAdmin(ReadOnlyAdmin):
    """The page; there is nothing to edit."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        asked = Asked(request.GET)
        now = timezone.now()
        period = Period.of(now - dt.timedelta(days=asked.days_back), now)
        found = report(period, asked.group, asked.only)
        daily = found if asked.group == "day" else report(period, "day", asked.only)
        context = {
            **self.admin_site.each_context(request),
            "title": "Costs and savings",
            "opts": self.model._meta,
            "asked": asked,
            "spans": [(title, asked.link(days=d), int(d) == asked.days_back)
                      for d, title in SPANS.items()],
            "groups": [(group, asked.link(by=group), group == asked.group) for group in GROUPS],
            "only": [(name, value, asked.link(**{name: ""})) for name, value in asked.only.items()],
            "period": period,
            "cards": _cards(found.total),
            "bars": _bars(daily),
            "rows": _rows(found, asked),
            "more": found.more + max(0, len(found.groups) - SHOWN_GROUPS),
            "simulated": f"{found.total.simulated:,}" if found.total.simulated else "",
            **(extra_context or {}),
        }  # fmt: skip
        return TemplateResponse(request, "admin/telemetry/costs.html", context)


def usd(nusd: int) -> str:
    """Return an amount for people: to the cent, or to the first digits that say something."""
    amount = abs(nusd) / 1e9
    digits = 2 if amount >= 10 or nusd == 0 else 4 if amount >= 0.01 else 7
    return f"{'−' if nusd < 0 else ''}${amount:,.{digits}f}"


def percent(compared: Compared) -> str:
    """Return the saving in percent of the baseline; a dash without one."""
    share = compared.saved_percent
    return "–" if share is None else f"{share:.1f} %".replace("-", "−")


def _cards(total: Spent) -> list[dict[str, Any]]:
    compared, measured, estimated = total.compared, total.measured, total.estimated
    unknown = f"{total.cost_unknown:,} requests have no known price" if total.cost_unknown else ""
    left_out = f"{total.uncompared:,} could not be compared" if total.uncompared else ""
    return [
        {"title": "Spent", "value": usd(total.cost_nusd), "notes": [
            f"{total.requests:,} requests, {total.requests - total.successes:,} failed", unknown]},
        {"title": "At the baseline", "value": usd(compared.baseline_nusd), "notes": [
            f"the same tokens of {compared.count:,} requests", left_out]},
        {"title": "Saved", "value": usd(compared.saved_nusd), "loss": compared.saved_nusd < 0,
         "notes": [f"{percent(compared)} of the baseline"]},
        {"title": "Measured", "value": usd(measured.saved_nusd), "loss": measured.saved_nusd < 0,
         "notes": [f"{percent(measured)}: {measured.count:,} requests whose tokens were counted"]},
        {"title": "Estimated", "value": usd(estimated.saved_nusd),
         "loss": estimated.saved_nusd < 0,
         "notes": [f"{percent(estimated)}: {estimated.count:,} whose tokens were estimated"]},
    ]  # fmt: skip


def _bars(daily: Report) -> list[Bar]:
    pairs = [(day, spent.compared) for day, spent in daily.groups]
    most = max((max(c.cost_nusd, c.baseline_nusd) for _, c in pairs), default=0) or 1
    return [
        Bar(
            day,
            usd(c.cost_nusd),
            usd(c.baseline_nusd),
            round(c.cost_nusd / most * CHART_PX),
            round(c.baseline_nusd / most * CHART_PX),
        )
        for day, c in pairs
    ]


def _rows(found: Report, asked: Asked) -> list[Row]:
    # A group that can be narrowed to leads there; a day, or nobody, cannot.
    return [
        Row(
            name or NOBODY.get(asked.group, "–"),
            asked.link(**{asked.group: name, "by": "day"}) if name and asked.group != "day" else "",
            f"{spent.requests:,}",
            f"{spent.prompt_tokens:,}",
            f"{spent.completion_tokens:,}",
            usd(spent.cost_nusd),
            usd(spent.compared.baseline_nusd),
            usd(spent.compared.saved_nusd),
            percent(spent.compared),
            spent.compared.saved_nusd < 0,
        )
        for name, spent in found.groups[:SHOWN_GROUPS]
    ]

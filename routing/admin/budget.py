"""Budgets: how much may be spent on what in which time."""

import datetime as dt
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import ValidationError

from routing.admin.balance import panel, percent, usd
from routing.admin.base import ExactForm, NamedAdmin, dollars
from routing.admin.look import TextInput, display
from routing.engine.catalog import BudgetSpec
from routing.models import ApiKey, Budget, Model, Tenant
from routing.policy.parsing import nearest
from routing.treasury.report import Standing, standings

# Where the names that a scope's subject may have are kept; tasks have words, tags are free.
SUBJECTS: dict[str, type[Model | Tenant | ApiKey]] = {
    "tenant": Tenant,
    "key": ApiKey,
    "model": Model,
}


class BudgetForm(ExactForm):
    """Refuses a subject that nobody is called, unless the budget had it already."""

    class Meta:
        model = Budget
        fields = BudgetSpec.__struct_fields__
        widgets: ClassVar[dict[str, Any]] = {"thresholds": TextInput}

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        table = SUBJECTS.get(data.get("scope", ""))
        subject = data.get("subject")
        changed = {"scope", "subject"} & set(self.changed_data)
        if table is not None and subject and changed:
            known = set(table._default_manager.values_list("name", flat=True))
            if subject not in known:
                told = f"There is no {data['scope']} {subject}{nearest(subject, known)}"
                self.add_error("subject", ValidationError(told))
        return data


@admin.register(Budget)
class BudgetAdmin(NamedAdmin):
    """A change holds in every worker within a second."""

    form = BudgetForm
    search_fields = ("name", "subject")
    list_filter = ("scope", "period", "hard", "enabled")
    list_display = (
        "name", "for_whom", "limit", "period", "spent", "forecast", "kind", "when_exhausted",
        "enabled",
    )  # fmt: skip
    readonly_fields = ("standing",)
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("name", "enabled", "scope", "subject")}),
        ("How much, and when", {"fields": ("limit_usd", "period", "time_zone")}),
        ("What happens", {"fields": ("hard", "when_exhausted", "thresholds")}),
        ("How it stands", {"fields": ("standing",)}),
    )

    @display(description="Spent")
    def spent(self, budget: Budget) -> str:
        one = _standing(budget)
        return f"{usd(one.spent_nusd)} ({percent(one)} %), {usd(one.held_nusd)} held"

    @display(description="Forecast")
    def forecast(self, budget: Budget) -> str:
        return usd(_standing(budget).forecast_nusd)

    @display(description="This period")
    def standing(self, budget: Budget) -> str:
        # As it is stored: what a form has just refused may be no budget at all.
        stored = Budget.objects.filter(pk=budget.pk).first()
        return panel(_standing(stored)) if stored is not None else "-"

    @display(description="For")
    def for_whom(self, budget: Budget) -> str:
        return f"{budget.scope} {budget.subject}" if budget.subject else "everything"

    @display(description="Limit", ordering="limit_usd")
    def limit(self, budget: Budget) -> str:
        return dollars(budget.limit_usd)

    @display(description="Kind", label={"hard": "danger", "soft": "info"})
    def kind(self, budget: Budget) -> str:
        return "hard" if budget.hard else "soft"


def _standing(budget: Budget) -> Standing:
    (one,) = standings(dt.datetime.now(dt.UTC), [budget])
    return one

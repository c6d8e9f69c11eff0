"""The baseline that savings are measured against: one row."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from routing.admin.base import PolicyAdmin
from routing.admin.look import PlainForm, display
from routing.engine.catalog import SavingsSpec
from routing.models import Model, Savings
from routing.policy.parsing import nearest


class SavingsForm(PlainForm):
    class Meta:
        model = Savings
        fields = SavingsSpec.__struct_fields__

    def clean_baseline(self) -> str:
        name: str = self.cleaned_data["baseline"]
        known = set(Model.objects.values_list("name", flat=True))
        if name and name not in known and "baseline" in self.changed_data:
            raise ValidationError(f"There is no model {name}{nearest(name, known)}")
        return name


@admin.register(Savings)
class SavingsAdmin(PolicyAdmin):
    """What every answer's cost is compared with."""

    form = SavingsForm
    actions: Any = ()
    list_display = ("baseline_shown",)

    @display(description="Baseline")
    def baseline_shown(self, savings: Savings) -> str:
        return savings.baseline or "the first available model"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return not Savings.objects.exists() and super().has_add_permission(request)

"""What the pages of tenants and keys have in common: limits and allowed models."""

from typing import Any

from django.core.exceptions import ValidationError

from routing.admin.base import ExactForm
from routing.models import Model
from routing.models.limits import LIMITS
from routing.policy.parsing import nearest

LIMIT_FIELDS = ("Limits, over all workers and nodes", {"fields": LIMITS})


class LimitedForm(ExactForm):
    """Refuses models that nobody knows, except those that the list had already."""

    def clean_allowed_models(self) -> list[str]:
        names: list[str] = self.cleaned_data["allowed_models"]
        kept = set(self.initial.get("allowed_models") or ())
        known = set(Model.objects.values_list("name", flat=True))
        unknown = [name for name in names if name not in known | kept]
        if unknown:
            told = [f"There is no model {name}{nearest(name, known)}" for name in unknown]
            raise ValidationError(" ".join(told))
        return names


def models_shown(row: Any) -> str:
    """Return a list of allowed models for people."""
    return ", ".join(row.allowed_models) or "all"

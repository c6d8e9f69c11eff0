"""What the admin pages of the policy have in common."""

from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model as DjangoModel
from django.db.models import QuerySet
from django.http import HttpRequest

from routing.admin.look import PlainAdmin, PlainForm, display
from routing.models import Origin
from routing.models.base import Tracked

TIER_COLOURS = {"basic": "default", "good": "info", "high": "success", "exceptional": "warning"}
SPEED_COLOURS = {"fast": "success", "medium": "info", "slow": "warning"}
BREAKER_COLOURS = {"closed": "success", "half-open": "warning", "open": "danger"}
STATE_COLOURS = {
    "loaded": "success",
    "up": "success",
    "ready": "info",
    "missing": "warning",
    "down": "danger",
    "unknown": "default",
}


class ExactForm(PlainForm):
    """Shows amounts as they were written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The database gives back nine decimals, and a zero as 0E-9.
        for name, value in self.initial.items():
            if isinstance(value, Decimal):
                self.initial[name] = format(value.normalize(), "f")


class PolicyAdmin(PlainAdmin):
    """A page of the policy: compact filters, bulk enabling that validates and keeps a history."""

    compressed_fields = True
    list_filter_submit = False
    warn_unsaved_form = True
    list_per_page = 50
    actions: Any = ("enable", "disable")

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        self._switch(request, queryset, enabled=True)

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: "QuerySet[Any]", *, enabled: bool) -> None:
        changed = []
        with transaction.atomic():
            for row in queryset.filter(enabled=not enabled):
                row.enabled = enabled
                try:
                    row.validate_constraints()
                except ValidationError as exc:
                    self.message_user(request, f"{row}: {' '.join(exc.messages)}", messages.ERROR)
                    continue
                row.save()
                changed.append(row)
            self._note(request, changed, "Enabled." if enabled else "Disabled.")
        done = "enabled" if enabled else "disabled"
        self.message_user(request, f"{len(changed)} {done}.", messages.SUCCESS)

    def _note(self, request: HttpRequest, rows: list[DjangoModel], message: str) -> None:
        if rows:
            LogEntry.objects.log_actions(
                user_id=request.user.pk or 0,
                queryset=rows,
                action_flag=CHANGE,
                change_message=message,
            )


NAME_STAYS = (
    "The name stays: budgets, limits, lists of models and records go by it. To rename, add another"
    " under the new name, point to that one where this one is named, and disable this one."
)


class NamedAdmin(PolicyAdmin):
    """Keeps the name of what exists: renamed, it would be out of all that goes by its name."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None else (*fields, "name")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        (title, first), *others = super().get_fieldsets(request, obj)
        if obj is not None:
            first = {**first, "description": NAME_STAYS}
        return [(title, first), *others]


class TrackedAdmin(PolicyAdmin):
    """Also shows where an object comes from and which fields discovery leaves alone."""

    readonly_fields: ClassVar[Any] = ("provenance",)

    @display(description="Origin", ordering="origin")
    def origin_shown(self, row: Tracked) -> str:
        return Origin(row.origin).label

    @display(description="Provenance")
    def provenance(self, row: Tracked) -> str:
        if row.pk is None:
            return "Yours: discovery will not change it."
        origin = Origin(row.origin)
        if not origin.is_machine:
            return f"{origin.label}: discovery does not change it."
        if not row.edited_fields:
            return f"{origin.label}: what you edit here, discovery will leave alone."
        edited = ", ".join(row.edited_fields)
        return f"{origin.label}; discovery leaves your edits alone: {edited}."


def dollars(price: Decimal | None) -> str:
    """Return a price for people: all its digits, none to spare."""
    return "unknown" if price is None else f"${format(price.normalize(), 'f')}"

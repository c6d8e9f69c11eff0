"""Offerings: which model at which endpoint, and how it is loaded there."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from redis.exceptions import RedisError

from routing.admin.base import BREAKER_COLOURS, STATE_COLOURS, TrackedAdmin
from routing.admin.live import BOARD
from routing.admin.look import PlainInline, display
from routing.models import Offering
from routing.policy.resets import reset_breakers
from telemetry.offering_health import BREAKER_ORDER


class OfferingInline(PlainInline):
    """Where a model is offered, on the model's own page."""

    model = Offering
    fields = ("endpoint", "upstream_model", "num_ctx", "keep_alive", "enabled")
    extra = 0
    hide_title = True
    tab = True


class BreakerFilter(admin.SimpleListFilter):
    """Offerings by the state of their circuit breakers."""

    title = "circuit breaker"
    parameter_name = "breaker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(state, state) for state in BREAKER_ORDER]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        if self.value() not in BREAKER_ORDER:
            return queryset
        rows = queryset.select_related("model", "endpoint")
        return queryset.filter(pk__in=[o.pk for o in rows if BOARD.breaker(o) == self.value()])


@admin.register(Offering)
class OfferingAdmin(TrackedAdmin):
    """Every model at every endpoint."""

    list_display = (
        "model",
        "endpoint",
        "upstream",
        "state",
        "breaker",
        "num_ctx",
        "keep_alive",
        "enabled",
        "origin_shown",
    )
    list_select_related = ("model", "endpoint")
    list_filter = ("endpoint", BreakerFilter, "enabled", "origin")
    actions = (*TrackedAdmin.actions, "reset_breaker")
    search_fields = ("model__name", "endpoint__name", "upstream_model")
    autocomplete_fields = ("model", "endpoint")
    fieldsets = (
        (None, {"fields": ("model", "endpoint", "upstream_model", "enabled", "provenance")}),
        ("How it is loaded", {"fields": ("num_ctx", "keep_alive")}),
    )

    @display(description="Called there", ordering="upstream_model")
    def upstream(self, offering: Offering) -> str:
        return offering.upstream_model or offering.model.name

    @display(description="State", label=STATE_COLOURS)
    def state(self, offering: Offering) -> str:
        return BOARD.state(offering)

    @display(description="Breaker", label=BREAKER_COLOURS)
    def breaker(self, offering: Offering) -> str:
        return BOARD.breaker(offering)

    @admin.action(description="Reset circuit breaker", permissions=["change"])
    def reset_breaker(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        """Close the breakers of the chosen rows in every worker, and keep it in their history."""
        rows = list(queryset.select_related("model", "endpoint"))
        named = [f"{row.model.name}@{row.endpoint.name}" for row in rows]
        try:
            reset_breakers(named, f"user '{request.user.get_username()}'")
        except RedisError:
            refused = "Redis does not answer, so no worker could be told; nothing was reset."
            self.message_user(request, refused, messages.ERROR)
            return
        BOARD.forget()
        self._note(request, rows, "Circuit breaker reset.")
        told = f"{len(rows)} circuit breakers reset; every worker follows within a second."
        self.message_user(request, told, messages.SUCCESS)

"""Offerings: which model at which endpoint, and how it is loaded there."""

from django.contrib import admin

from routing.admin.base import STATE_COLOURS, TrackedAdmin
from routing.admin.live import BOARD
from routing.admin.look import PlainInline, display
from routing.models import Offering


class OfferingInline(PlainInline):
    """Where a model is offered, on the model's own page."""

    model = Offering
    fields = ("endpoint", "upstream_model", "num_ctx", "keep_alive", "enabled")
    extra = 0
    hide_title = True
    tab = True


@admin.register(Offering)
class OfferingAdmin(TrackedAdmin):
    """Every model at every endpoint."""

    list_display = (
        "model",
        "endpoint",
        "upstream",
        "state",
        "num_ctx",
        "keep_alive",
        "enabled",
        "origin_shown",
    )
    list_select_related = ("model", "endpoint")
    list_filter = ("endpoint", "enabled", "origin")
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

"""Models and their capability records."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from routing.admin.base import (
    SPEED_COLOURS,
    STATE_COLOURS,
    TIER_COLOURS,
    ExactForm,
    NamedAdmin,
    TrackedAdmin,
    dollars,
)
from routing.admin.live import BOARD
from routing.admin.look import CheckBoxes, TextInput, display
from routing.admin.offering import OfferingInline
from routing.engine.catalog import TASK_TYPES, ModelSpec
from routing.models import Model
from routing.models.base import choices

# The state worth telling where endpoints differ: the most useful one.
BEST_FIRST = ("loaded", "ready", "unknown", "missing", "down")


class ModelForm(ExactForm):
    """Tasks as boxes to tick instead of a comma-separated text."""

    capabilities = forms.MultipleChoiceField(
        choices=choices(TASK_TYPES),
        widget=CheckBoxes,
        help_text="The tasks it may be chosen for.",
    )

    class Meta:
        model = Model
        fields = ModelSpec.__struct_fields__
        widgets: ClassVar[dict[str, Any]] = {"best_for": TextInput}


class CapabilityFilter(admin.SimpleListFilter):
    """Models that can do a task."""

    title = "capability"
    parameter_name = "capability"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return choices(TASK_TYPES)

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(capabilities__contains=[self.value()]) if self.value() else queryset


@admin.register(Model)
class ModelAdmin(NamedAdmin, TrackedAdmin):
    """The catalogue."""

    form = ModelForm
    inlines = (OfferingInline,)
    search_fields = ("name", "best_for")
    list_filter = (CapabilityFilter, "quality_tier", "speed", "enabled", "origin")
    list_display = (
        "name",
        "tier",
        "pace",
        "ram",
        "price",
        "can",
        "state",
        "endpoints",
        "enabled",
        "origin_shown",
    )
    fieldsets = (
        (None, {"fields": ("name", "enabled", "capabilities", "best_for", "provenance")}),
        (
            "What it is like",
            {
                "fields": (
                    "quality_tier",
                    "speed",
                    "context_length",
                    "ram_required_gb",
                    "kv_mb_per_1k_tokens",
                    "accepts_prefill",
                )
            },
        ),
        ("Price", {"fields": ("cost_per_1k_input_usd", "cost_per_1k_output_usd")}),
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        return super().get_queryset(request).prefetch_related("offerings__endpoint")

    @display(description="Tier", ordering="quality_tier", label=TIER_COLOURS)
    def tier(self, model: Model) -> str:
        return model.quality_tier

    @display(description="Speed", ordering="speed", label=SPEED_COLOURS)
    def pace(self, model: Model) -> str:
        return model.speed

    @display(description="RAM", ordering="ram_required_gb")
    def ram(self, model: Model) -> str:
        return f"{model.ram_required_gb:g}\u00a0GB" if model.ram_required_gb else "-"

    @display(description="$ per 1k in / out", ordering="cost_per_1k_output_usd")
    def price(self, model: Model) -> str:
        prices = (model.cost_per_1k_input_usd, model.cost_per_1k_output_usd)
        # Of None nothing is known, so it is not free.
        if all(price is not None and not price for price in prices):
            return "free"
        return " / ".join(dollars(price) for price in prices)

    @display(description="Capabilities")
    def can(self, model: Model) -> str:
        return ", ".join(model.capabilities)

    @display(description="State", label=STATE_COLOURS)
    def state(self, model: Model) -> str:
        states = {
            BOARD.state(offering)
            for offering in model.offerings.all()
            if offering.enabled and offering.endpoint.enabled
        }
        return next((state for state in BEST_FIRST if state in states), "not offered")

    @display(description="Endpoints")
    def endpoints(self, model: Model) -> str:
        offered = [o.endpoint.name for o in model.offerings.all() if o.enabled]
        return ", ".join(sorted(offered)) or "-"

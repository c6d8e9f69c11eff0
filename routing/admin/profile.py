"""Routing profiles: four of them, one for each priority."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from routing.admin.base import PolicyAdmin
from routing.admin.look import display
from routing.engine.catalog import PRIORITIES
from routing.models import RoutingProfile


@admin.register(RoutingProfile)
class RoutingProfileAdmin(PolicyAdmin):
    """What each priority weighs and expects."""

    actions: Any = ()
    list_display = (
        "priority",
        "quality_weight",
        "cost_weight",
        "latency_weight",
        "memory_weight",
        "success_weight",
        "floors",
        "deadline",
    )
    fieldsets = (
        (None, {"fields": ("priority", "deadline_ms", "max_wait_ms", "commit", "hedge_percent")}),
        (
            "Weights, relative to each other",
            {
                "fields": (
                    "quality_weight",
                    "cost_weight",
                    "latency_weight",
                    "memory_weight",
                    "success_weight",
                )
            },
        ),
        (
            "Least quality by complexity",
            {"fields": ("floor_simple", "floor_moderate", "floor_complex")},
        ),
    )

    @display(description="Floors: simple / moderate / complex")
    def floors(self, profile: RoutingProfile) -> str:
        return " / ".join((profile.floor_simple, profile.floor_moderate, profile.floor_complex))

    @display(description="Deadline", ordering="deadline_ms")
    def deadline(self, profile: RoutingProfile) -> str:
        return f"{profile.deadline_ms / 1000:g} s"

    def has_add_permission(self, request: HttpRequest) -> bool:
        complete = RoutingProfile.objects.count() >= len(PRIORITIES)
        return not complete and super().has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Without its profile a priority would silently go by the defaults.
        return False

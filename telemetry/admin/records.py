"""Requests, models and samples, as they were recorded."""

import datetime as dt
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from telemetry.admin.base import ReadOnlyAdmin
from telemetry.models import ModelMetric, OrchestratorRequest, SystemResource


class KindFilter(admin.SimpleListFilter):
    """What was asked for; a fixed list, because looking for the values would read the table."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in ("select", "route", "chat", "embed")]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        return queryset.filter(kind=self.value()) if self.value() else queryset


class WhenFilter(admin.SimpleListFilter):
    """How far back to look. A day unless asked for more: a filter that matches little would read
    the whole table."""

    title = "time"
    parameter_name = "within"
    hours: ClassVar[dict[str, tuple[str, int | None]]] = {
        "1h": ("last hour", 1),
        "24h": ("last 24 hours", 24),
        "7d": ("last 7 days", 168),
        "all": ("all that is kept", None),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, title) for name, (title, _) in self.hours.items()]

    def choices(self, changelist: Any) -> Any:
        for name, title in self.lookup_choices:
            yield {
                "selected": self._chosen == name,
                "query_string": changelist.get_query_string({self.parameter_name: name}),
                "display": title,
            }

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        # Whoever looks for one request by its id means it wherever it is.
        usual = "all" if request.GET.get("q") else "24h"
        given = self.value()
        self._chosen = given if given in self.hours else usual

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        hours = self.hours[self._chosen][1]
        if hours is None:
            return queryset
        return queryset.filter(created_at__gte=timezone.now() - dt.timedelta(hours=hours))


class NameFilter(admin.SimpleListFilter):
    """Whose requests: the name comes from a link or the address, for there may be thousands."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = request.GET.get(self.parameter_name or "")
        return [(given, given)] if given else []

    def has_output(self) -> bool:
        return bool(self.value())

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        given = self.value()
        return queryset.filter(**{f"{self.parameter_name}": given}) if given else queryset


class TenantFilter(NameFilter):
    title = parameter_name = "tenant"


class KeyFilter(NameFilter):
    title = parameter_name = "key"


@admin.register(OrchestratorRequest)
class OrchestratorRequestAdmin(ReadOnlyAdmin):
    """Requests, newest first."""

    list_display = (
        "created_at", "request_id", "tenant", "kind", "task_type", "selected_model_id", "endpoint",
        "success", "fallback_used", "status", "response_time_ms", "cost_estimate", "simulated",
    )  # fmt: skip
    list_display_links = ("created_at", "request_id")
    list_filter = (
        WhenFilter, KindFilter, "success", "fallback_used", "simulated", TenantFilter, KeyFilter,
    )  # fmt: skip
    search_fields = ("request_id__exact",)
    search_help_text = "A whole request id."

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # The model by name: its row may not exist, and is not worth a query.
        names = [field.name for field in OrchestratorRequest._meta.fields]
        return ["selected_model_id" if name == "selected_model" else name for name in names]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self.get_fields(request, obj)

    @admin.display(description="selected model")
    def selected_model_id(self, request: OrchestratorRequest) -> str:
        return request.selected_model_id


@admin.register(ModelMetric)
class ModelMetricAdmin(ReadOnlyAdmin):
    """What each model did in sum."""

    list_display = (
        "model_name", "request_count", "success_count", "error_count", "failed_attempts",
        "avg_response_time_ms", "current_load", "memory_usage_mb", "last_used",
    )  # fmt: skip
    search_fields = ("model_name",)


@admin.register(SystemResource)
class SystemResourceAdmin(ReadOnlyAdmin):
    """Samples of the conductor's host, newest first."""

    list_display = (
        "recorded_at", "memory_available_gb", "memory_free_gb", "memory_total_gb",
        "cpu_usage_percent", "swap_used_percent",
    )  # fmt: skip

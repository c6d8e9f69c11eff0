"""Tenants: who spends, and with which keys."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from routing.admin.base import NamedAdmin
from routing.admin.limited import LIMIT_FIELDS, LimitedForm, models_shown
from routing.admin.look import TextInput, display
from routing.admin.usage import usage_shown
from routing.engine.catalog import TenantSpec
from routing.models import Tenant


class TenantForm(LimitedForm):
    class Meta:
        model = Tenant
        fields = TenantSpec.__struct_fields__
        widgets: ClassVar[dict[str, Any]] = {"allowed_models": TextInput}
        help_texts: ClassVar[dict[str, str]] = {
            "allowed_models": "Models its keys may use, with commas between. Empty: all."
        }


@admin.register(Tenant)
class TenantAdmin(NamedAdmin):
    """Disabling one refuses all of its keys within a second."""

    form = TenantForm
    search_fields = ("name",)
    list_filter = ("enabled",)
    list_display = ("name", "valid_keys", "share", "models", "enabled")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("name", "enabled", "allowed_models", "share")}),
        LIMIT_FIELDS,
        ("Now", {"fields": ("used",)}),
    )
    readonly_fields: ClassVar[Any] = ("used",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        rows: QuerySet[Any] = super().get_queryset(request)
        annotated: QuerySet[Any] = rows.annotate(
            valid_keys=Count("keys", filter=Q(keys__enabled=True))
        )
        return annotated

    @display(description="Keys", ordering="valid_keys")
    def valid_keys(self, tenant: Any) -> int:
        return int(tenant.valid_keys)

    @display(description="Limits used")
    def used(self, tenant: Tenant) -> str:
        return usage_shown("tenant", tenant.name, tenant)

    @display(description="Models")
    def models(self, tenant: Tenant) -> str:
        return models_shown(tenant)

"""API keys. The token is on the page that answers the form, once, and nowhere else."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from routing.admin.base import NamedAdmin
from routing.admin.limited import LIMIT_FIELDS, LimitedForm, models_shown
from routing.admin.look import TextInput, display
from routing.admin.usage import usage_shown
from routing.engine.catalog import LimitsSpec
from routing.models import ApiKey
from routing.policy.issuing import new_token

KEY_COLOURS = {
    "valid": "success",
    "expired": "warning",
    "tenant disabled": "warning",
    "revoked": "danger",
}


class ApiKeyForm(LimitedForm):
    class Meta:
        model = ApiKey
        fields = (
            "name",
            "tenant",
            "enabled",
            "expires_at",
            "allowed_models",
            *LimitsSpec.__struct_fields__,
        )
        widgets: ClassVar[dict[str, Any]] = {"allowed_models": TextInput}
        help_texts: ClassVar[dict[str, str]] = {
            "allowed_models": "With commas between, of those its tenant may use. Empty: all those."
        }


@admin.register(ApiKey)
class ApiKeyAdmin(NamedAdmin):
    """Disabling a key revokes it: every worker refuses it within a second."""

    form = ApiKeyForm
    search_fields = ("name", "prefix", "tenant__name")
    list_filter = ("tenant", "enabled")
    list_select_related = ("tenant",)
    list_display = ("name", "tenant", "begins_with", "state", "expires_at", "models", "created_at")
    autocomplete_fields = ("tenant",)
    readonly_fields: ClassVar[Any] = ("begins_with", "created_at", "used")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("name", "tenant", "begins_with", "enabled", "created_at")}),
        ("What it may do", {"fields": ("expires_at", "allowed_models")}),
        LIMIT_FIELDS,
        ("Now", {"fields": ("used",)}),
    )

    @display(description="Begins with", ordering="prefix")
    def begins_with(self, key: ApiKey) -> str:
        return f"{key.prefix}…" if key.prefix else "shown once, when it is saved"

    @display(description="Limits used")
    def used(self, key: ApiKey) -> str:
        return usage_shown("key", key.name, key)

    @display(description="State", label=KEY_COLOURS)
    def state(self, key: ApiKey) -> str:
        if not key.enabled:
            return "revoked"
        if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
            return "expired"
        return "valid" if key.tenant.enabled else "tenant disabled"

    @display(description="Models")
    def models(self, key: ApiKey) -> str:
        return models_shown(key)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # What it spent is its tenant's; another tenant gets another key.
        fields = super().get_readonly_fields(request, obj)
        return fields if obj is None else (*fields, "tenant")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if not change:
            minted = new_token(obj.tenant.name)
            obj.prefix, obj.digest = minted.prefix, minted.digest
            # Not through Django's messages, which would keep it in a cookie or a session.
            request.minted_token = minted.token  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Answer with the token itself: a redirect would have to keep it somewhere."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"API key {obj.name}",
            "opts": self.opts,
            "key": obj,
            "token": request.minted_token,  # type: ignore[attr-defined]
        }
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        return TemplateResponse(
            request, "admin/routing/apikey/token.html", context, headers=headers
        )

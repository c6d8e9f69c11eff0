"""Leases: which process holds money of which budget, and giving up on one that is lost."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from routing.admin.balance import usd
from routing.admin.look import display
from routing.models import Lease
from routing.treasury.leases import WARNING, HolderLives, NoSuchHolder, last_sign, release
from telemetry.admin.base import ReadOnlyAdmin


@admin.register(Lease)
class LeaseAdmin(ReadOnlyAdmin):
    """Those under which money is held; what a lost holder held can be released."""

    list_display = ("holder", "budget", "held", "last_sign_of_life", "state", "spool")
    list_select_related = ("window",)
    search_fields = ("holder", "spool", "window__budget")
    ordering = ("expires_at", "holder")
    actions: Any = ("release_holders",)

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.filter(closed=False, granted_nusd__gt=F("settled_nusd"))

    @display(description="Budget", ordering="window__budget")
    def budget(self, lease: Lease) -> str:
        return str(lease.window)

    @display(description="Held")
    def held(self, lease: Lease) -> str:
        return usd(lease.granted_nusd - lease.settled_nusd)

    @display(description="Last sign of life", ordering="expires_at")
    def last_sign_of_life(self, lease: Lease) -> str:
        return f"{last_sign(lease.expires_at):%Y-%m-%d %H:%M:%S}"

    @display(description="State", label={"alive": "success", "silent": "danger"})
    def state(self, lease: Lease) -> str:
        return "alive" if lease.expires_at > timezone.now() else "silent"

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.change_lease")

    @admin.action(
        description="Release all that these holders hold: only if they are lost for good",
        permissions=["release"],
    )
    def release_holders(self, request: HttpRequest, queryset: "QuerySet[Any]") -> None:
        """End every lease of the chosen rows' holders, but not of those that live."""
        by = f"user '{request.user.get_username()}'"
        for spool, holder in sorted(set(queryset.values_list("spool", "holder"))):
            try:
                held = release(holder, spool=spool, by=by).held_nusd
            except (HolderLives, NoSuchHolder) as refusal:
                refused = f"{refusal}. Nothing of it was released."
                self.message_user(request, refused, messages.ERROR)
            else:
                told = f"Released {usd(held)} that '{holder}' held. {WARNING}"
                self.message_user(request, told, messages.WARNING)

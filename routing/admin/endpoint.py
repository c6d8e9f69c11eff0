"""Endpoints, and a button that tests the connection."""

import asyncio
from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse

from routing.admin.base import STATE_COLOURS, NamedAdmin, TrackedAdmin
from routing.admin.live import BOARD
from routing.admin.look import action, display
from routing.engine.catalog import EndpointSpec
from routing.models import Endpoint
from routing.policy import metadata
from routing.policy.metadata import ProbeError, Sighting

MOST_NAMES = 12


@admin.register(Endpoint)
class EndpointAdmin(NamedAdmin, TrackedAdmin):
    """The servers that answer. Keys are shown by their reference only."""

    list_display = (
        "name",
        "provider",
        "base_url",
        "state",
        "version",
        "offered",
        "host",
        "region",
        "api_key_ref",
        "simulated",
        "enabled",
        "origin_shown",
    )
    list_filter = ("provider", "enabled", "simulated", "region")
    search_fields = ("name", "base_url", "host", "region")
    actions_detail = ("test_connection",)
    actions_row = ("test_connection",)
    fieldsets = (
        (None, {"fields": ("name", "enabled", "provider", "base_url", "api_key_ref")}),
        ("Where it is", {"fields": ("host", "region", "simulated", "provenance")}),
        ("What it bears", {"fields": ("max_concurrency", "max_queue", "min_residency_s")}),
    )

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Any]":
        rows: QuerySet[Any] = super().get_queryset(request)
        offered = Count("offerings", filter=Q(offerings__enabled=True))
        annotated: QuerySet[Any] = rows.annotate(offered=offered)
        return annotated

    @display(description="State", label=STATE_COLOURS)
    def state(self, endpoint: Endpoint) -> str:
        news = BOARD.endpoint(endpoint.name)
        if news is None:
            return "unknown"
        return "up" if news.up else "down"

    @display(description="Version")
    def version(self, endpoint: Endpoint) -> str:
        news = BOARD.endpoint(endpoint.name)
        return news.version if news and news.version else "-"

    @display(description="Models", ordering="offered")
    def offered(self, endpoint: Any) -> int:
        return int(endpoint.offered)

    @action(description="Test connection", url_path="test-connection", permissions=["view"])
    def test_connection(self, request: HttpRequest, object_id: str) -> HttpResponseRedirect:
        """Ask the endpoint for its metadata, as saved, and tell what it says."""
        endpoint = get_object_or_404(Endpoint, pk=object_id)
        try:
            sighting = asyncio.run(_look(endpoint.spec()))
        except ProbeError as exc:
            self.message_user(request, f"{endpoint} is not fit: {exc}", messages.ERROR)
        else:
            self.message_user(request, f"{endpoint} answers. {_told(sighting)}", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:routing_endpoint_change", args=[endpoint.pk]))


async def _look(endpoint: EndpointSpec) -> Sighting:
    async with metadata.client() as http:
        return await metadata.look(http, endpoint)


def _told(sighting: Sighting) -> str:
    version = f"Version {sighting.version}. " if sighting.version else ""
    if sighting.models is None:
        return f"{version}It does not list its models."
    names = sorted(found.name for found in sighting.models)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    loaded = ", ".join(sorted(found.name for found in sighting.loaded)) or "none"
    listed = f"{', '.join(names[:MOST_NAMES])}{more}" if names else "none"
    return f"{version}Models ({len(names)}): {listed}. Loaded: {loaded}."

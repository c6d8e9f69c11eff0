"""Paths of telemetry's control plane, below /api/v1/."""

from django.urls import path

from telemetry.api.resources import ResourceMetricsView

urlpatterns = [
    path("ai/resources/metrics", ResourceMetricsView.as_view(), name="resource-metrics"),
]

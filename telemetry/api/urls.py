"""Paths of telemetry's control plane, below /api/v1/."""

from django.urls import path

from telemetry.api.costs import CostsView, SavingsView
from telemetry.api.export import RequestsExportView
from telemetry.api.resources import ResourceMetricsView

urlpatterns = [
    path("ai/analytics/costs", CostsView.as_view(), name="analytics-costs"),
    path("ai/analytics/savings", SavingsView.as_view(), name="analytics-savings"),
    path("ai/analytics/requests", RequestsExportView.as_view(), name="analytics-requests"),
    path("ai/resources/metrics", ResourceMetricsView.as_view(), name="resource-metrics"),
]

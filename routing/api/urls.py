"""Paths of the routing app's control plane, below /api/v1/ and /v1/."""

from django.urls import path

from routing.api.breakers import BreakersResetView, BreakersView
from routing.api.budgets import BudgetsView
from routing.api.doors import lane_paths
from routing.api.health import HealthView
from routing.api.status import ModelsStatusView

urlpatterns = [
    path("health", HealthView.as_view(), name="health"),
    path("ai/breakers", BreakersView.as_view(), name="breakers"),
    path("ai/breakers/reset", BreakersResetView.as_view(), name="breakers-reset"),
    path("ai/budgets", BudgetsView.as_view(), name="budgets"),
    path("ai/models/status", ModelsStatusView.as_view(), name="models-status"),
    *(path(at, view, name=name) for at, view, name in lane_paths("/api/v1/")),
]
openai_urlpatterns = [path(at, view, name=name) for at, view, name in lane_paths("/v1/")]

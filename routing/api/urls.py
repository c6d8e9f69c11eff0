"""Paths of the routing app's control plane, below /api/v1/ and /v1/."""

from django.urls import path

from routing.api.doors import lane_paths

urlpatterns = [path(at, view, name=name) for at, view, name in lane_paths("/api/v1/")]
openai_urlpatterns = [path(at, view, name=name) for at, view, name in lane_paths("/v1/")]

"""The control plane's paths; agents' own endpoints meet them in `asgi.py`."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView

from routing.api.urls import openai_urlpatterns

handler400 = "routing.api.problems.bad_request"
handler404 = "routing.api.problems.not_found"
handler500 = "routing.api.problems.server_error"


urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(url="/dashboard")),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/redoc", SpectacularRedocView.as_view(url_name="schema"), name="redoc"),
    path("api/v1/", include("routing.api.urls")),
    path("api/v1/", include("telemetry.api.urls")),
    path("v1/", include(openai_urlpatterns)),
    path("", include("dashboard.urls")),
]

"""WebSocket routes; `orchestra_site/asgi.py` mounts them."""

from channels.security.websocket import AllowedHostsOriginValidator  # type: ignore[import-untyped]
from django.urls import path, re_path

from dashboard.consumers import LiveConsumer, nowhere

# Any page may open a WebSocket to any host: only pages of our own hosts are answered.
websocket_urlpatterns = [
    path("ws/live", AllowedHostsOriginValidator(LiveConsumer.as_asgi())),
    re_path("", nowhere),  # type: ignore[arg-type]  # an ASGI application, as Channels asks
]

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """The operators' live page: a shell, a WebSocket feed and static modules; it stores nothing."""

    name = "dashboard"

    def ready(self) -> None:
        from dashboard.quiet import quieten

        quieten()

"""The dashboard alone on a port of its own: its page, its static files and its feed.

Run as a program it serves on the port given as its argument, with the environment's settings.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_LIMIT_S = 15
STOP_LIMIT_S = 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def dashboard_on(port: int) -> Iterator[str]:
    """Serve on a loopback port and yield the base URL; leaving kills the server at once."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.dashboard.serving", str(port)],
        cwd=Path(__file__).parents[2],
    )
    try:
        _wait_listening(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait(STOP_LIMIT_S)


def _wait_listening(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert server.poll() is None, "The server stopped while starting."
            assert time.monotonic() < deadline, f"No server within {START_LIMIT_S} s."
            time.sleep(0.05)
        else:
            return


def main() -> None:
    import uvicorn
    from channels.routing import (  # type: ignore[import-untyped]
        ProtocolTypeRouter,
        URLRouter,
    )
    from django.conf import settings
    from django.core.asgi import get_asgi_application

    # Without the control plane, which would ask for a database.
    settings.ROOT_URLCONF = "dashboard.urls"
    pages = get_asgi_application()

    from dashboard.routing import websocket_urlpatterns

    application = ProtocolTypeRouter({"http": pages, "websocket": URLRouter(websocket_urlpatterns)})
    uvicorn.run(
        application,
        port=int(sys.argv[1]),
        ws="websockets-sansio",
        lifespan="off",
        log_level="error",
    )


if __name__ == "__main__":
    main()

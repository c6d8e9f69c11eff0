"""A web worker: uvicorn on the socket that the supervisor bound, both planes behind it."""

import os
import socket
import sys

import uvicorn

from orchestra_site.corked import CorkedHttp
from orchestra_site.listener import Server

# What a dashboard sends is tiny; what it is sent does not count here.
LONGEST_MESSAGE_BYTES = 64 * 1024
GRACE_S = 2


def config() -> uvicorn.Config:
    """Return how every web worker serves."""
    return uvicorn.Config(
        "orchestra_site.asgi:application",
        loop="uvloop",
        http=CorkedHttp,
        ws="websockets-sansio",
        ws_max_size=LONGEST_MESSAGE_BYTES,
        ws_max_queue=16,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        # No proxy is trusted, so nobody else says who the caller is.
        proxy_headers=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestra_site.settings")
    descriptor = os.environ.get("ORCHESTRA_LISTEN_FD", "")
    if not descriptor.isdigit():
        print(  # noqa: T201
            "ORCHESTRA_LISTEN_FD names no socket: start web workers with `manage.py ai-orchestra"
            " up`, or serve orchestra_site.asgi:application with uvicorn.",
            file=sys.stderr,
        )
        return 2
    server = Server(config())
    server.run(sockets=[socket.socket(fileno=int(descriptor))])
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())

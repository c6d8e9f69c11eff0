"""Runs the simulator on uvicorn: in the foreground, or in a thread beside a test."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from routing.simulator.app import create_app
from routing.simulator.course import Simulator
from routing.simulator.wire import TRANSPORT_KEY

BACKLOG = 2048
THREAD_LIMIT_S = 10.0


class CannotListen(Exception):
    """Raised when the address is not to be had; its text is one sentence for the operator."""


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which also shows the connection to faults that break it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][TRANSPORT_KEY] = self.transport


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as exc:
        listener.close()
        reason = getattr(exc, "strerror", None) or str(exc)
        raise CannotListen(f"Cannot listen on {host}:{port}: {reason}.") from exc
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server(sim: Simulator) -> uvicorn.Server:
    """Return a uvicorn server for one simulator, to be run on a socket from `listen`."""
    config = uvicorn.Config(
        create_app(sim),
        http=Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        # Broken connections are this server's trade; uvicorn would report each as an error.
        log_level="critical",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


class Background:
    """A simulator served from a thread of this process."""

    def __init__(self, sim: Simulator, host: str = "127.0.0.1", port: int = 0) -> None:
        # It listens from here on: a request that comes early waits in the backlog.
        self._listener = listen(host, port)
        self._server = server(sim)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="simulator", daemon=True
        )
        self.url = url_of(self._listener)
        self._thread.start()

    def stop(self) -> None:
        """Begin to stop; requests under way have a second to end."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait until it has stopped."""
        self._thread.join(THREAD_LIMIT_S)
        self._listener.close()


@contextlib.contextmanager
def running(sim: Simulator, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve the simulator from a thread and yield its URL; it has stopped on leaving."""
    background = Background(sim, host, port)
    try:
        yield background.url
    finally:
        background.stop()
        background.join()

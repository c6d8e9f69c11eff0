"""The listening socket: bound once, before anything is started, and inherited by the workers."""

import errno
import ipaddress
import socket

import psutil

from orchestra_site.environ import SHORTEST_SECRET, Environment
from orchestra_site.errors import CannotStart

BACKLOG = 2048


def refuse_open_door(environment: Environment) -> None:
    """Raise CannotStart where others could reach the service and need no key.

    Keys are only as good as the secret they are hashed under: beyond loopback it must be given, so
    that it is the operator who keeps it, and every node has the same.
    """
    host = environment.api_host
    if all(ipaddress.ip_address(found[4][0]).is_loopback for found in _addresses(host, 0)):
        return
    if not environment.keys_required:
        raise CannotStart(
            f"API_HOST is {host}, which others can reach, and ORCHESTRA_REQUIRE_KEYS is off: leave"
            " that out, or set API_HOST to 127.0.0.1."
        )
    if environment.secret_key is None:
        raise CannotStart(
            f"API_HOST is {host}, which others can reach: set SECRET_KEY to a secret of at least"
            f" {SHORTEST_SECRET} characters, the same on every node, or set API_HOST to 127.0.0.1."
        )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise CannotStart naming the port if it is in use."""
    family, kind, protocol, _, address = _addresses(host, port)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise CannotStart(_refusal(host, port, exc)) from exc
    return listener


def _addresses(host: str, port: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise CannotStart(
            f"API_HOST is {host}, which is no address of this machine ({exc.strerror});"
            " set it to 127.0.0.1."
        ) from exc
    return found  # type: ignore[return-value]


def _refusal(host: str, port: int, exc: OSError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is in use{_holder(port)}; stop that, or set API_PORT to"
            " another port."
        )
    if exc.errno == errno.EACCES:
        return f"Port {port} needs root's rights; set API_PORT to a port above 1023."
    return f"{host} port {port} cannot be listened on: {exc.strerror}; set API_HOST and API_PORT."


def _holder(port: int) -> str:
    """Return who holds the port, as far as this user may know it."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""

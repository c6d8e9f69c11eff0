"""The real service for tests: `manage.py ai-orchestra up` as a process, in a home of its own."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestra_site.embedded import leash
from orchestra_site.environ import CHECKOUT
from orchestra_site.home import Home
from tests import environment

READY_LIMIT_S = 50.0
STOP_LIMIT_S = 12.0


@dataclass(frozen=True, slots=True)
class LiveService:
    """A running service: `url` has no trailing slash; `pid` is the supervisor's."""

    url: str
    home: Home
    pid: int

    def child(self, name: str) -> psutil.Process:
        """Return the process of a worker, by the name that `up` gave it (`web-0`, `conductor`)."""
        for process in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("ORCHESTRA_WORKER") == name:
                    return process
        raise LookupError(f"{name} is not running")


def wait_replaced(live: LiveService, old: psutil.Process, name: str) -> None:
    """Return when another process has a killed worker's name: what follows may count on it."""
    deadline = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(LookupError):
            if live.child(name).pid != old.pid:
                return
        time.sleep(0.05)
    raise AssertionError(f"{name} was not started again.")


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    home: Path, port: int, *, simulate: bool = True, **settings: str
) -> subprocess.Popen[bytes]:
    """Start `up` with only these settings; its output goes to `up.txt` of the home."""
    env = environment.outside() | {"ORCHESTRA_HOME": str(home), "API_PORT": str(port)} | settings
    argv = [sys.executable, "manage.py", "ai-orchestra", "up"]
    argv += ["--simulate"] if simulate else []
    home.mkdir(exist_ok=True)
    return leash.spawn(argv, log=home / "up.txt", env=env, cwd=CHECKOUT)


def answers(url: str) -> bool:
    """Return True if the URL answers with success now."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_ready(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    """Return when the service answers; fail with what it printed if it does not."""
    if not leash.wait_until(lambda: answers(f"{url}/readyz"), process, READY_LIMIT_S):
        raise AssertionError(f"The service is not ready: {output.read_text()}")


def gone(processes: list[psutil.Process], limit_s: float = 2.0) -> list[psutil.Process]:
    """Return those processes that are still there after the limit."""
    deadline = time.monotonic() + limit_s
    left = processes
    while left and time.monotonic() < deadline:
        left = [process for process in left if process.is_running()]
        time.sleep(0.05)
    return left


@contextlib.contextmanager
def running(home: Path, *, simulate: bool = True, **settings: str) -> Iterator[LiveService]:
    """Run the service until the block ends; then it must stop well and leave nothing behind."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = start(home, port, simulate=simulate, **settings)
    try:
        wait_ready(process, url, home / "up.txt")
        yield LiveService(url, Home(home), process.pid)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=STOP_LIMIT_S)
        assert process.returncode == 0
        assert gone(family) == []
    finally:
        leash.stop(process, signal.SIGTERM, STOP_LIMIT_S)

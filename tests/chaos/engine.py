"""Simulated inference servers as processes that can be killed, stopped and started again."""

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestra_site.embedded import leash
from orchestra_site.environ import CHECKOUT
from routing.simulator import limits
from tests import environment
from tests.service import free_port

START_LIMIT_S = 15.0


class Engine:
    """One simulator at one port for its whole life, whatever happens to its process."""

    def __init__(self, name: str, folder: Path, options: Sequence[str]) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.deaths = 0
        self._log = folder / f"{name}.log"
        self._options = list(options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Tell whether the process is there, stopped or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; it dies with this one, however this one ends."""
        argv = [sys.executable, "-m", "routing.simulator", "--port", str(self.port)]
        self._process = leash.spawn(
            [*argv, *self._options],
            log=self._log,
            death_signal=signal.SIGKILL,
            env=environment.outside(),
            cwd=CHECKOUT,
        )

    def wait_ready(self) -> None:
        """Return when it answers; fail with its last words if it does not."""
        deadline = time.monotonic() + START_LIMIT_S
        while self.state(limit_s=1.0) is None:
            if not self.running or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start: {leash.last_line(self._log)}")
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it as the kernel does, and wait until it is gone."""
        if self._process is not None:
            leash.kill(self._process)

    def faults(self, rules: list[dict[str, Any]]) -> None:
        """Put these fault rules in force instead of any others."""
        self._ask("PUT", "/_sim/faults", {"faults": rules}, limit_s=2.0)

    def neighbour(self, megabytes: float) -> None:
        """Have other processes of its machine take memory."""
        self._ask("PUT", "/_sim/memory", {"other_mb": megabytes}, limit_s=2.0)

    def state(self, limit_s: float = 1.0) -> dict[str, Any] | None:
        """Return what it says of itself; None if it does not answer."""
        return self._ask("GET", "/_sim/state", None, limit_s)

    def _ask(self, method: str, path: str, body: Any, limit_s: float) -> dict[str, Any] | None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=limit_s) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (urllib.error.URLError, OSError, ValueError):
            return None


@contextlib.contextmanager
def engines(names: Sequence[str], folder: Path, options: Sequence[str]) -> Iterator[list[Engine]]:
    """Run simulators until the block ends."""
    started = [Engine(name, folder, options) for name in names]
    try:
        for engine in started:
            engine.start()
        for engine in started:
            engine.wait_ready()
        yield started
    finally:
        for engine in started:
            engine.kill()
        limits.sweep()

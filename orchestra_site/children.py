"""The processes that the supervisor keeps alive."""

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestra_site.embedded import leash
from orchestra_site.errors import CannotStart, OperatorError

FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 30.0
# After so long a life a death is news, not part of a series.
SETTLED_S = 60.0
START_ATTEMPTS = 3


@dataclass(slots=True)
class Child:
    """One process to be kept alive; a dead one is started again, ever more patiently."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]]
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_limit_s: float = 3.0
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started_s: float = 0.0
    next_start_s: float | None = None

    def start(self) -> None:
        """Launch the process now."""
        self.started_s = time.monotonic()
        self.next_start_s = None
        self.process = self.launch()

    def tend(self) -> str | None:
        """Notice a death, or start again when it is time; return a line of news, if any."""
        now = time.monotonic()
        if self.next_start_s is not None:
            return self._restart() if now >= self.next_start_s else None
        if self.process is None or self.process.poll() is None:
            return None
        ended = _ending(self.process.returncode)
        leash.kill(self.process)
        if now - self.started_s > SETTLED_S:
            self.failures = 0
        return self._schedule(ended)

    def must_live(self) -> None:
        """Raise CannotStart if the process has died as often as a start-up may see it die."""
        if self.failures >= START_ATTEMPTS:
            reason = leash.last_line(self.log)
            raise CannotStart(f"{self.name} does not start: {reason} (see {self.log}).")

    def _restart(self) -> str | None:
        try:
            self.start()
        except (OperatorError, OSError) as exc:
            return self._schedule(f"could not be started ({exc})")
        return None

    def _schedule(self, what: str) -> str:
        delay_s = min(FIRST_DELAY_S * 2**self.failures, LONGEST_DELAY_S)
        self.failures += 1
        self.next_start_s = time.monotonic() + delay_s
        return f"{self.name} {what}; it starts again in {delay_s:g} s (see {self.log})."


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def stop_together(children: list[Child]) -> None:
    """Ask all of them to stop, then wait for each; kill those that take longer than allowed."""
    began = time.monotonic()
    living = [(child, child.process) for child in children if child.process is not None]
    for child, process in living:
        if process.poll() is None:
            process.send_signal(child.stop_signal)
    for child, process in living:
        left_s = child.stop_limit_s - (time.monotonic() - began)
        leash.finish(process, left_s)
        child.process = None

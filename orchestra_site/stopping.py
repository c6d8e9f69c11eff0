"""Ctrl-C as a fact that waiting code looks at, never an exception in the middle of a fork."""

import contextlib
import os
import select
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Raised where it is safe, once the operator asked this process to stop."""


class Signals:
    """How often this process was asked to stop; wakes a sleeper on every signal."""

    def __init__(self) -> None:
        self.asked = 0
        self._wakeup: int | None = None

    def install(self) -> None:
        """Note every request to stop from now on, and every child that ends."""
        self._wakeup, writer = os.pipe()
        for descriptor in (self._wakeup, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._note)
        # Only to be woken: without a handler the kernel would drop it.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1

    def check(self) -> None:
        """Raise Stopped if this process was asked to stop."""
        if self.asked:
            raise Stopped

    def sleep(self, limit_s: float) -> None:
        """Wait, at most until the next signal."""
        if self._wakeup is None:
            select.select([], [], [], limit_s)
            return
        ready, _, _ = select.select([self._wakeup], [], [], limit_s)
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 4096)


signals = Signals()

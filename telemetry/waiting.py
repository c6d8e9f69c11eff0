"""Waiting that a request to stop cuts short."""

import asyncio
import contextlib
import random
from collections.abc import Collection
from typing import Any

# redis-py's pub/sub can swallow a cancellation, so it is said again; sooner, it would interrupt the
# closing of a connection on a busy machine.
CANCEL_AGAIN_S = 1.0


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for `seconds` or until `stop`; returns whether it is set."""
    if seconds > 0 and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, again until it works, and return when all have ended."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        # Never in step with a task that does something every second: it would be interrupted at
        # the same point each time.
        await asyncio.wait(running, timeout=CANCEL_AGAIN_S * (1 + random.random() / 2))  # noqa: S311


class Backoff:
    """Growing pauses between attempts: doubles from `first_s` up to `most_s`."""

    def __init__(self, first_s: float = 0.25, most_s: float = 5.0) -> None:
        self.first_s = first_s
        self.most_s = most_s
        self._next_s = first_s

    @property
    def fresh(self) -> bool:
        """Return whether there was no failure since the last success."""
        return self._next_s == self.first_s

    def failed(self) -> float:
        """Return how long to wait, in seconds."""
        now_s, self._next_s = self._next_s, min(self._next_s * 2, self.most_s)
        return now_s

    def succeeded(self) -> None:
        """Start over with the shortest pause."""
        self._next_s = self.first_s

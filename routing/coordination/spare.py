"""Answers that Redis did not take, kept in this worker until their time is over."""

import time
from collections.abc import Callable

from routing.coordination.answers import Mark

# Sealed answers are a third larger than they were.
MOST_BYTES = 32 * 1024 * 1024


class Spare:
    """Keeps marks for a while; where they are too much, the oldest go first."""

    def __init__(
        self, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_bytes, self._clock = most_bytes, clock
        self._kept: dict[str, tuple[float, Mark]] = {}
        self._bytes = 0

    def put(self, key: str, mark: Mark, keep_s: float) -> None:
        """Keep a mark for so long."""
        self._drop(key)
        self._kept[key] = (self._clock() + keep_s, mark)
        self._bytes += _size(mark)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def get(self, key: str) -> Mark | None:
        """Return what is kept under a key."""
        until, mark = self._kept.get(key, (0.0, None))
        if mark is not None and self._clock() >= until:
            self._drop(key)
            return None
        return mark

    def _drop(self, key: str) -> None:
        _, mark = self._kept.pop(key, (0.0, None))
        if mark is not None:
            self._bytes -= _size(mark)


def _size(mark: Mark) -> int:
    return len(mark.answer or b"")

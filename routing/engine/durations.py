"""How long something took of late, and what is already slow for it."""

import math

# So many of the newest are looked at: enough for a percentile, soon forgotten.
KEPT = 128
# Before so many nothing is slow.
LEAST = 20
SLOW_QUANTILE = 0.95
# The percentile is worked out again after so many new ones.
STALE_AFTER = 8


class Durations:
    """The newest durations of one kind, in ms."""

    __slots__ = ("_at", "_kept", "_since", "_slow_ms")

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._at = 0  # which one is replaced next
        self._since = STALE_AFTER
        self._slow_ms = 0.0

    def add(self, took_ms: float) -> None:
        """Take in one duration; it takes the oldest one's place."""
        self._since += 1
        if len(self._kept) < KEPT:
            self._kept.append(took_ms)
            return
        self._kept[self._at] = took_ms
        self._at = (self._at + 1) % KEPT

    def slow_ms(self) -> float | None:
        """Return their 95th percentile (nearest rank); None while there are too few."""
        count = len(self._kept)
        if count < LEAST:
            return None
        if self._since >= STALE_AFTER:
            self._since = 0
            self._slow_ms = sorted(self._kept)[math.ceil(SLOW_QUANTILE * count) - 1]
        return self._slow_ms

    def add_unfinished(self, took_ms: float) -> None:
        """Take in something that was ended after so long, if it was slow by then.

        Without those, ending what is slow would make ever shorter times look slow.
        """
        slow_ms = self.slow_ms()
        if slow_ms is not None and took_ms >= slow_ms:
            self.add(took_ms)

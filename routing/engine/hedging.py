"""When a second attempt is worth its cost: after what is usual, and within a share of requests.

Source of the idea: Dean and Barroso, "The Tail at Scale" (2013): a second request after the 95th
percentile shortens the tail at a few percent more load.
"""

import math

KEEP = 100
# Before so many answers a 95th percentile is a guess.
LEAST = 20
QUANTILE = 0.95
# What quiet times save up: a burst of second attempts is no larger than this.
MOST_SAVED = 10.0


class Latencies:
    """The last hundred times of one kind, in ms."""

    __slots__ = ("_next", "_times")

    def __init__(self) -> None:
        self._times: list[float] = []
        self._next = 0

    def add(self, ms: float) -> None:
        if len(self._times) < KEEP:
            self._times.append(ms)
            return
        self._times[self._next] = ms
        self._next = (self._next + 1) % KEEP

    def p95(self) -> float | None:
        """Return the 95th percentile (nearest rank), or None while too little is known."""
        if len(self._times) < LEAST:
            return None
        return sorted(self._times)[math.ceil(QUANTILE * len(self._times)) - 1]


class HedgeBudget:
    """Second attempts, at most so many percent of the requests so far."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved = 0.0

    def earn(self, percent: float) -> None:
        """Count a request."""
        self._saved = min(self._saved + percent / 100, MOST_SAVED)

    def spend(self) -> bool:
        """Return whether a second attempt may be made, and count it."""
        # Sums of tenths fall short of whole numbers by a rounding error.
        if self._saved < 1 - 1e-9:
            return False
        self._saved -= 1
        return True

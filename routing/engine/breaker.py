"""A circuit breaker for one offering: closed, open, half-open.

Pure: time and jitter are given. Opened by 5 failures in a row, or by half of at least 5 calls
within 30 s, or by 80 % slow calls; open for 15 s, doubling to 5 minutes. docs/routing.md says why.
"""

import enum
from collections import deque
from dataclasses import dataclass


class BreakerState(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens and for how long; seconds and fractions."""

    consecutive_failures: int = 5
    window_s: float = 30.0
    min_calls: int = 5
    failure_rate: float = 0.5
    slow_rate: float = 0.8
    open_s: float = 15.0
    max_open_s: float = 300.0
    probes: int = 1
    # A probe whose outcome never arrives (its worker died) frees its place after this long.
    probe_timeout_s: float = 130.0


DEFAULT_RULES = BreakerRules()


class Breaker:
    """Mutable state of one offering's breaker.

    `allows` asks without changing anything; `begin` claims the right to call; exactly one of
    `succeed`, `fail` and `abandon` must follow it, with the time it was given: that tells the
    outcome of a probe from that of a call begun before the opening, which proves nothing.
    """

    __slots__ = (
        "_calls",
        "_failures_in_window",
        "_probes",
        "_slow_in_window",
        "consecutive",
        "open_until",
        "openings",
        "rules",
        "state",
    )

    def __init__(self, rules: BreakerRules = DEFAULT_RULES) -> None:
        self.rules = rules
        self.state = BreakerState.CLOSED
        self.open_until = 0.0
        self.openings = 0  # in a row, without a success in between
        self.consecutive = 0
        self._calls: deque[tuple[float, bool, bool]] = deque()  # (at, failed, slow)
        self._failures_in_window = 0
        self._slow_in_window = 0
        self._probes: list[float] = []

    def allows(self, now: float) -> bool:
        """Return True if a call may begin at `now` (seconds, monotonic)."""
        if self.state is BreakerState.CLOSED:
            return True
        if now < self.open_until:
            return False
        return len(self._live_probes(now)) < self.rules.probes

    def begin(self, now: float) -> bool:
        """Claim a call; False if none may begin. An open one whose time is up goes half-open."""
        if self.state is BreakerState.CLOSED:
            return True
        if not self.allows(now):
            return False
        self.state = BreakerState.HALF_OPEN
        self._probes = [*self._live_probes(now), now]
        return True

    def succeed(self, now: float, *, began: float, slow: bool = False) -> bool:
        """Record an answer. Return True if the breaker changed its state."""
        if self.state is not BreakerState.CLOSED:
            if not self._ends_probe(began) or self.state is BreakerState.OPEN:
                return False
            self._close()
            return True
        self.consecutive = 0
        self._count(now, failed=False, slow=slow)
        if slow and self._tripped():
            self._open(now, 0.0, 0.0)
            return True
        return False

    def fail(
        self, now: float, *, began: float, jitter: float = 0.0, retry_after_s: float = 0.0
    ) -> bool:
        """Record the upstream's failure. Return True if the breaker changed its state.

        `jitter` (0..1) lengthens the opening by up to a fifth: workers must not probe in step.
        """
        self.consecutive += 1
        if self.state is not BreakerState.CLOSED:
            probed = self._ends_probe(began)
            if self.state is BreakerState.OPEN or not probed:
                # A second failure may lengthen an opening, never shorten it.
                if retry_after_s > 0:
                    self.open_until = max(self.open_until, now + retry_after_s)
                return False
            self._open(now, jitter, retry_after_s)
            return True
        self._count(now, failed=True, slow=False)
        if self._tripped():
            self._open(now, jitter, retry_after_s)
        elif retry_after_s > 0:
            # It said when to come back: that is its pace, and no reason to stay away for longer.
            self.state = BreakerState.OPEN
            self.open_until = now + retry_after_s * (1 + jitter / 5)
        return self.state is BreakerState.OPEN

    def abandon(self, began: float) -> None:
        """Take back a `begin` whose outcome says nothing about the upstream."""
        if self._ends_probe(began) and self.state is BreakerState.HALF_OPEN and not self._probes:
            self.state = BreakerState.OPEN

    def open_elsewhere(self, until: float) -> None:
        """Another worker opened its breaker for this offering until `until`."""
        if self.state is BreakerState.CLOSED or until > self.open_until:
            self.state = BreakerState.OPEN
            self.open_until = max(self.open_until, until)

    def reset(self) -> None:
        """Close, whatever was counted."""
        self._close()

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self.open_until = 0.0
        self.openings = 0
        self.consecutive = 0
        self._probes = []
        self._calls.clear()
        self._failures_in_window = self._slow_in_window = 0

    def _open(self, now: float, jitter: float, retry_after_s: float) -> None:
        rules = self.rules
        length = min(rules.open_s * 2**self.openings, rules.max_open_s) * (1 + jitter / 5)
        self.open_until = max(self.open_until, now + max(length, retry_after_s))
        self.openings = min(self.openings + 1, 16)
        self.state = BreakerState.OPEN
        self._probes = []

    def _ends_probe(self, began: float) -> bool:
        if began not in self._probes:
            return False
        self._probes.remove(began)
        return True

    def _live_probes(self, now: float) -> list[float]:
        return [at for at in self._probes if now - at < self.rules.probe_timeout_s]

    def _count(self, now: float, *, failed: bool, slow: bool) -> None:
        self._calls.append((now, failed, slow))
        self._failures_in_window += failed
        self._slow_in_window += slow
        oldest = now - self.rules.window_s
        # The length bound keeps a busy offering's window from growing with its traffic.
        while self._calls and (self._calls[0][0] < oldest or len(self._calls) > 200):
            _, was_failed, was_slow = self._calls.popleft()
            self._failures_in_window -= was_failed
            self._slow_in_window -= was_slow

    def _tripped(self) -> bool:
        rules, calls = self.rules, len(self._calls)
        if self.consecutive >= rules.consecutive_failures:
            return True
        if calls < rules.min_calls:
            return False
        return (
            self._failures_in_window >= rules.failure_rate * calls
            and self._failures_in_window > 0
            or self._slow_in_window >= rules.slow_rate * calls
        )

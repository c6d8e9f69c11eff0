"""A circuit breaker for one offering: closed, open, half-open.

Pure: time and jitter are given. Opened by 5 failures in a row, or by half of at least 5 calls
within 30 s, or by 80 % slow calls; open for 15 s, doubling to 5 minutes. docs/routing.md says why.

What is told between workers is a standing: a generation, which grows with every closing (and when
a dead upstream is seen again), and within it the latest `open_until` and the most `openings`.
Joining two takes the younger generation, or the greater of each within one: in any order, any
number of times, everybody ends up equal.
"""

import enum
from collections import deque
from collections.abc import Callable
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
MOST_OPENINGS = 16
# What has just opened is not tried again at once, whoever needs it.
LEAST_OPEN_S = 1.0
# The least by which a closing makes a generation younger, in seconds.
GENERATION_STEP_S = 0.001


@dataclass(slots=True)
class _Probe:
    """One call let through. What it meets proves nothing once the breaker was moved meanwhile."""

    valid: bool = True
    ended: Callable[[], None] | None = None


class Breaker:
    """Mutable state of one offering's breaker.

    `allows` asks without changing anything; `begin` claims the right to call; exactly one of
    `succeed`, `fail` and `abandon` must follow it, with the time it was given: that tells the
    outcome of a probe from that of a call begun before the opening, which proves nothing.
    """

    __slots__ = (
        "_calls",
        "_failures_in_window",
        "_held_until",
        "_probes",
        "_slow_in_window",
        "consecutive",
        "generation",
        "named_until",
        "open_until",
        "opened_at",
        "openings",
        "reason",
        "rules",
        "state",
    )

    def __init__(self, rules: BreakerRules = DEFAULT_RULES) -> None:
        self.rules = rules
        self.state = BreakerState.CLOSED
        self.open_until = self.opened_at = 0.0
        self.named_until = 0.0  # the upstream itself said not to come before
        self.openings = 0  # in a row, without a success in between
        self.generation = 0.0  # when it was last closed, seconds since the epoch
        self.reason = ""  # code of the error that opened it
        self.consecutive = 0
        self._calls: deque[tuple[float, bool, bool]] = deque()  # (at, failed, slow)
        self._failures_in_window = 0
        self._slow_in_window = 0
        self._probes: dict[float, _Probe] = {}  # by the time each was begun
        self._held_until = 0.0  # somebody else probes

    def allows(self, now: float) -> bool:
        """Return True if a call may begin at `now` (seconds, monotonic)."""
        if self.state is BreakerState.CLOSED:
            return True
        if now < self.open_until or now < self._held_until:
            return False
        return self._live_probes(now) < self.rules.probes

    def begin(self, now: float) -> bool:
        """Claim a call; False if none may begin. An open one whose time is up goes half-open."""
        if self.state is BreakerState.CLOSED:
            return True
        if not self.allows(now):
            return False
        self.state = BreakerState.HALF_OPEN
        timeout_s = self.rules.probe_timeout_s
        self._probes = {at: p for at, p in self._probes.items() if now - at < timeout_s}
        self._probes[now] = _Probe()
        return True

    def when_probe_ends(self, began: float, ended: Callable[[], None]) -> None:
        """Have `ended` called once, when the outcome of the probe begun then is told."""
        if (probe := self._probes.get(began)) is not None:
            probe.ended = ended

    def hold(self, until: float) -> None:
        """Let nobody through before `until`: another worker probes."""
        self._held_until = max(self._held_until, until)

    def succeed(self, now: float, *, began: float, slow: bool = False) -> bool:
        """Record an answer. Return True if the breaker changed its state."""
        probed = self._ends_probe(began)
        if self.state is not BreakerState.CLOSED:
            if not probed or self.state is BreakerState.OPEN:
                return False
            self._close()
            return True
        self.consecutive = 0
        self._count(now, failed=False, slow=slow)
        return slow and self._slowed(now)

    def slow(self, now: float) -> bool:
        """Call the last success a slow one. Return True if the breaker changed its state."""
        if self.state is not BreakerState.CLOSED or not self._calls or self._calls[-1][1]:
            return False
        at, _, was_slow = self._calls[-1]
        self._calls[-1] = (at, False, True)
        self._slow_in_window += not was_slow
        return self._slowed(now)

    def fail(
        self, now: float, *, began: float, jitter: float = 0.0, retry_after_s: float = 0.0
    ) -> bool:
        """Record the upstream's failure. Return True if others must know: it opened, or for longer.

        `jitter` (0..1) lengthens the opening by up to a fifth: workers must not probe in step.
        """
        self.consecutive += 1
        if retry_after_s > 0:
            self.named_until = max(self.named_until, now + retry_after_s)
        probed = self._ends_probe(began)
        if self.state is not BreakerState.CLOSED:
            if self.state is BreakerState.OPEN or not probed:
                return self._lengthen(now + retry_after_s if retry_after_s > 0 else 0.0)
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

    def hear(
        self,
        now: float,
        *,
        generation: float,
        open_until: float | None,
        openings: int = 0,
        reason: str = "",
    ) -> None:
        """Join with another worker's standing; `open_until` is None if it is closed there."""
        if generation < self.generation:
            return
        if generation > self.generation:
            self._close()
            self.generation = generation
        if open_until is None:
            return
        if self.state is BreakerState.CLOSED:
            self.state, self.opened_at = BreakerState.OPEN, now
        self.openings = max(self.openings, min(openings, MOST_OPENINGS))
        if open_until > self.open_until or not self.reason:
            self.reason = reason
        if open_until <= now:
            # Its time is up: a probe under way here is the one that counts.
            self.open_until = max(self.open_until, open_until)
        else:
            self._lengthen(open_until)

    def ripen(self, now: float, seen_at: float) -> bool:
        """Let a probe through at once: the upstream was dead, and at `seen_at` it was not.

        Only the first opening in a row ends so, and only by what was seen since; callers know that
        the upstream named no time itself. Return True if others must know: a generation begins,
        for within one no opening is ever shortened.
        """
        if not self._waits(now) or self.openings > 1 or seen_at <= self.opened_at:
            return False
        self._may_try(now)
        return True

    def hasten(self, now: float) -> bool:
        """Let a probe through before its time, because nobody else is left to ask.

        Not within a second of the opening, nor before the upstream said, nor beside a probe. If it
        fails, the opening is as long as the one cut short. Return True if others must know, as
        `ripen` does.
        """
        if not self._waits(now) or now - self.opened_at < LEAST_OPEN_S:
            return False
        self._may_try(now)
        self.openings = max(self.openings - 1, 0)
        return True

    def is_tried(self, now: float) -> bool:
        """Return True if a probe is under way, here or at another worker."""
        if self.state is BreakerState.CLOSED:
            return False
        return self._held_until > now or self._live_probes(now) > 0

    def _waits(self, now: float) -> bool:
        """Return True if it is open for its own time only, and nobody tries already."""
        if self.state is not BreakerState.OPEN or self._live_probes(now):
            return False
        return self.open_until > now >= self.named_until

    def _may_try(self, now: float) -> None:
        self.generation += GENERATION_STEP_S
        self.open_until = now
        self._held_until = 0.0
        self._discredit()

    def reset(self) -> None:
        """Close, whatever was counted."""
        self._close()

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self.generation += GENERATION_STEP_S
        self.open_until = self.named_until = self._held_until = 0.0
        self.openings = 0
        self.reason = ""
        self.consecutive = 0
        self._discredit()
        self._calls.clear()
        self._failures_in_window = self._slow_in_window = 0

    def _open(self, now: float, jitter: float, retry_after_s: float) -> None:
        rules = self.rules
        length = min(rules.open_s * 2**self.openings, rules.max_open_s) * (1 + jitter / 5)
        self.open_until = max(self.open_until, now + max(length, retry_after_s))
        self.openings = min(self.openings + 1, MOST_OPENINGS)
        self.state, self.opened_at = BreakerState.OPEN, now
        self._held_until = 0.0
        self._discredit()

    def _lengthen(self, until: float) -> bool:
        """Stay open until `until` if that is longer; a second failure never shortens it."""
        if until <= self.open_until:
            return False
        self.state = BreakerState.OPEN
        self.open_until = until
        self._held_until = 0.0
        self._discredit()
        return True

    def _slowed(self, now: float) -> bool:
        if not self._tripped():
            return False
        self._open(now, 0.0, 0.0)
        return True

    def _discredit(self) -> None:
        for probe in self._probes.values():
            probe.valid = False

    def _ends_probe(self, began: float) -> bool:
        probe = self._probes.pop(began, None)
        if probe is None:
            return False
        if probe.ended is not None:
            probe.ended()
        return probe.valid

    def _live_probes(self, now: float) -> int:
        timeout_s = self.rules.probe_timeout_s
        return sum(1 for at in self._probes if now - at < timeout_s)

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

"""What is to be carried out for one request, and what happened on the way."""

from collections.abc import Callable

import msgspec

from routing.engine.catalog import Commit
from routing.engine.decide import Decision, Need
from routing.engine.errors import ProviderError, RefusedByUpstream
from routing.engine.policy import Candidate
from routing.providers.base import Call
from telemetry.record import Attempt

# Timers may fire this much before the clock says so.
TIMER_GRAIN_S = 0.002

OnWait = Callable[[int, int], None]  # position, expected wait in ms
CallFor = Callable[[Candidate], Call]


class Trail(msgspec.Struct):
    """What happened on the way to an answer; the record and the errors are made of it."""

    attempts: list[Attempt] = []
    failures: list[tuple[str, ProviderError]] = []
    answered_by: Candidate | None = None
    queued_ms: int = 0  # in admission queues
    queue_position: int = 0  # when it began to wait; 0: it never did
    hedged: set[str] = set()  # offerings asked beside a slow first one
    decided: bool = False  # a race has its winner; who ends now has lost it
    waiting: tuple[int, int] | None = None  # position and expected ms, while it waits

    @property
    def refusals(self) -> list[RefusedByUpstream]:
        passing = ("context_length_exceeded", "model_not_found")
        return [
            e
            for _, e in self.failures
            if isinstance(e, RefusedByUpstream) and e.kind not in passing
        ]


class Job(msgspec.Struct, kw_only=True):
    """One request to carry out; `deadline` is on the runtime's clock, in seconds."""

    decision: Decision
    call_for: CallFor
    deadline: float
    deadline_ms: int
    most_attempts: int | None = None
    commit: Commit = "first_token"
    trail: Trail
    longest_wait_s: float = 30.0  # for a place at an endpoint
    hedge_percent: float = 0.0

    @property
    def need(self) -> Need:
        return self.decision.need

    def is_late(self, now: float) -> bool:
        """Return True if the deadline has passed."""
        return now >= self.deadline - TIMER_GRAIN_S

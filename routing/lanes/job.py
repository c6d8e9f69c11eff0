"""What is to be carried out for one request, and what happened on the way."""

from collections.abc import Callable

import msgspec

from routing.engine.catalog import Commit
from routing.engine.decide import Decision
from routing.engine.errors import ProviderError, RefusedByUpstream
from routing.engine.hedging import HedgeBudget
from routing.engine.need import Need
from routing.engine.payers import Payers
from routing.engine.policy import Candidate
from routing.lanes.till import Tab
from routing.providers.base import Call
from telemetry.record import Attempt

# Timers may fire this much before the clock says so.
TIMER_GRAIN_S = 0.002

OnWait = Callable[[int, int], None]  # position, expected wait in ms
CallFor = Callable[[Candidate], Call]
# Keeps what a call leaves if this process dies while it is made; raises SpoolUnavailable.
Insure = Callable[[Candidate, Tab, Payers], None]


class Trail(msgspec.Struct):
    """What happened on the way to an answer; the record and the errors are made of it."""

    attempts: list[Attempt] = []
    failures: list[tuple[str, ProviderError]] = []
    answered_by: Candidate | None = None
    hedge: Candidate | None = None  # whom a slow attempt was asked beside
    lost_nusd: int | None = 0  # what attempts cost that were ended for another; None: not known
    queued_ms: int = 0  # in admission queues
    queue_position: int = 0  # when it began to wait; 0: it never did
    waiting: tuple[int, int] | None = None  # position and expected ms, while it waits
    tabs: list[Tab] = []  # what attempts cost, where a budget counts it
    payer: Tab | None = None  # of whose attempt the answer is
    cut: bool = False  # the answer was ended where its money did

    def add_lost(self, cost_nusd: int | None) -> None:
        known = self.lost_nusd is not None and cost_nusd is not None
        self.lost_nusd = (self.lost_nusd or 0) + (cost_nusd or 0) if known else None

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
    # Not on the trail: exchanges have trails, and a circle would be the garbage collector's work.
    insure: Insure | None = None
    hedges: HedgeBudget | None = None  # None: no second attempt beside a slow one

    @property
    def need(self) -> Need:
        return self.decision.need

    def is_late(self, now: float) -> bool:
        """Return True if the deadline has passed."""
        return now >= self.deadline - TIMER_GRAIN_S

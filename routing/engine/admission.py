"""Who is let through next to one endpoint: a bounded, fair queue. Pure: time is an argument.

Order: priority, then the tenant that was served least for its share, then requests whose model is
loaded, then who came first. Two rules keep that from starving anybody: a priority that was passed
over `PASSED_OVER` times while its head waited `AGING_S` gets one turn, and a request for a model
that is not loaded goes before the loaded ones once half of its longest wait is over.
"""

import enum
import math
from collections.abc import Callable, Iterable, Iterator

import msgspec

from routing.engine.catalog import PRIORITIES
from routing.engine.errors import Crowded

RANKS: dict[str, int] = {name: rank for rank, name in enumerate(PRIORITIES)}
# As the queue fills, lower priorities get a smaller share of it, so low is refused first.
SHARES = (0.5, 0.8, 0.9, 1.0)
AGING_S = 5.0
PASSED_OVER = 8
# A cold request is held back for loaded ones for this share of its longest wait.
BATCHING_SHARE = 0.5
# Weight of the newest service time in its moving average.
ALPHA = 0.1
FIRST_SERVICE_S = 0.25


class TicketState(enum.StrEnum):
    WAITING = "waiting"
    GRANTED = "granted"
    WITHDRAWN = "withdrawn"


class Ticket(msgspec.Struct, kw_only=True, eq=False):
    """One request that waits; `offering` is what it waits for, `at` when it came (seconds)."""

    offering: str
    rank: int
    at: float
    longest_s: float
    tenant: str = ""
    share: float = 1.0  # of two tenants, the one with twice the share is served twice as often
    state: TicketState = TicketState.WAITING

    def impatient(self, now: float) -> bool:
        """Return True if loaded models have gone before for long enough."""
        return now - self.at >= self.longest_s * BATCHING_SHARE


class Readiness(msgspec.Struct, frozen=True):
    """What an offering can do now: `warm` needs no load, `may_load` says a load may begin."""

    warm: bool
    may_load: bool = False

    @property
    def can_go(self) -> bool:
        return self.warm or self.may_load


Ready = Callable[[str], Readiness]


class Queue:
    """The requests that wait for one endpoint in one worker."""

    __slots__ = ("_by_rank", "_passed", "_served", "_size", "endpoint", "limit", "service_s")

    def __init__(self, endpoint: str, limit: int) -> None:
        self.endpoint = endpoint
        self.limit = limit
        self.service_s = FIRST_SERVICE_S
        self._by_rank: tuple[list[Ticket], ...] = tuple([] for _ in PRIORITIES)
        self._passed = [0] * len(PRIORITIES)
        # Virtual time by tenant: how much each was served, as start-time fair queueing counts it.
        self._served: dict[str, float] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Ticket]:
        for tickets in reversed(self._by_rank):
            yield from tickets

    def join(self, ticket: Ticket, slots: int) -> None:
        """Take a ticket in; raises Crowded where it cannot be served in time.

        `slots` is how many requests the endpoint serves at once for this worker.
        """
        self.check(ticket, slots)
        self.add(ticket)

    def check(self, ticket: Ticket, slots: int) -> None:
        """Raise Crowded if the ticket cannot be served in time, or has no room to wait."""
        wait_s = self.expected_s(slots, ahead=self._ahead_of_new(ticket.rank))
        if self._size >= math.ceil(self.limit * SHARES[ticket.rank]):
            raise self.crowded("has as many requests waiting as it may", wait_s)
        if wait_s > ticket.longest_s:
            raise self.crowded(f"is expected to be free in {wait_s:.1f} s, too late", wait_s)

    def add(self, ticket: Ticket) -> None:
        """Take a ticket in, whoever waits already."""
        self._enter_tenant(ticket.tenant)
        self._by_rank[ticket.rank].append(ticket)
        self._size += 1

    def withdraw(self, ticket: Ticket) -> bool:
        """Take a ticket out that waits no longer; False if it had been granted before."""
        if ticket.state is not TicketState.WAITING:
            return False
        self._remove(ticket)
        ticket.state = TicketState.WITHDRAWN
        return True

    def take(self, now: float, ready: Ready) -> Ticket | None:
        """Grant the next ticket that can go; None if none can."""
        known: dict[str, Readiness] = {}

        def look(ticket: Ticket) -> Readiness:
            found = known.get(ticket.offering)
            if found is None:
                found = known[ticket.offering] = ready(ticket.offering)
            return found

        for rank in self._ranks(now):
            ticket = self._best(self._by_rank[rank], now, look)
            if ticket is not None:
                self._grant(ticket)
                return ticket
        return None

    def position(self, ticket: Ticket) -> int:
        """Return how many go before it, itself included: 1 is next. Cold ones may be passed."""
        own = self._by_rank[ticket.rank]
        return self._ahead_of_new(ticket.rank) - len(own) + own.index(ticket) + 1

    def expected_s(self, slots: int, *, ahead: int | None = None) -> float:
        """Return the expected wait behind `ahead` others, seconds: position over throughput."""
        before = self._size if ahead is None else ahead
        return (before + 1) * self.service_s / max(slots, 1)

    def served(self, took_s: float) -> None:
        """Learn from one request how long the endpoint takes."""
        self.service_s += ALPHA * (took_s - self.service_s)

    def crowded(self, why: str, wait_s: float) -> Crowded:
        """Return the refusal, with the time after which asking again makes sense."""
        text = f"Endpoint '{self.endpoint}' {why}."
        return Crowded(self.endpoint, text, retry_after_s=max(wait_s, 1.0))

    def waits_for(self, offerings: Iterable[str]) -> bool:
        """Return True if somebody waits for one of them."""
        wanted = set(offerings)
        return bool(wanted) and any(ticket.offering in wanted for ticket in self)

    def _ahead_of_new(self, rank: int) -> int:
        return sum(len(tickets) for tickets in self._by_rank[rank:])

    def _enter_tenant(self, tenant: str) -> None:
        """Let who comes newly begin where the least served are: no credit for having been away."""
        if any(ticket.tenant == tenant for ticket in self):
            return
        present = {ticket.tenant for ticket in self}
        least = min((self._served[name] for name in present), default=0.0)
        mine = max(self._served.get(tenant, 0.0), least) if present else 0.0
        self._served = {name: self._served[name] for name in present} | {tenant: mine}

    def _ranks(self, now: float) -> list[int]:
        """Return the priorities in the order of their turn: a starved one first."""
        order = [rank for rank in range(len(PRIORITIES) - 1, -1, -1) if self._by_rank[rank]]
        starved = [rank for rank in order if self._starves(rank, now)]
        # The lowest first: whatever is above it was served more often.
        return [*reversed(starved), *(rank for rank in order if rank not in starved)]

    def _starves(self, rank: int, now: float) -> bool:
        return self._passed[rank] >= PASSED_OVER and now - self._by_rank[rank][0].at >= AGING_S

    def _best(
        self, tickets: list[Ticket], now: float, look: Callable[[Ticket], Readiness]
    ) -> Ticket | None:
        best: tuple[bool, float, bool] | None = None
        found: Ticket | None = None
        for ticket in tickets:
            state = look(ticket)
            if not state.can_go:
                continue
            overdue = not state.warm and ticket.impatient(now)
            # False sorts first; within equals the list is in order of arrival.
            key = (not overdue, self._served[ticket.tenant], not state.warm)
            if best is None or key < best:
                best, found = key, ticket
        return found

    def _grant(self, ticket: Ticket) -> None:
        self._remove(ticket)
        ticket.state = TicketState.GRANTED
        self._served[ticket.tenant] += 1.0 / ticket.share
        self._passed[ticket.rank] = 0
        for rank in range(ticket.rank):
            self._passed[rank] = self._passed[rank] + 1 if self._by_rank[rank] else 0

    def _remove(self, ticket: Ticket) -> None:
        self._by_rank[ticket.rank].remove(ticket)
        self._size -= 1

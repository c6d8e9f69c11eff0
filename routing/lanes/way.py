"""One endpoint's queue and places in a worker, and who waits there."""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from routing.engine.admission import RANKS, Queue, Ticket
from routing.engine.catalog import EndpointSpec
from routing.engine.need import Need
from routing.engine.policy import Candidate
from routing.engine.slots import Slots
from routing.engine.state import EndpointState, OfferingState

if TYPE_CHECKING:
    from routing.lanes.gate import Pass


class Waiter(msgspec.Struct, eq=False):
    """A ticket with what it is for, and where its pass will be."""

    ticket: Ticket
    candidate: Candidate
    live: OfferingState
    need: Need
    passed: "asyncio.Future[Pass | None]"  # None: its turn to load

    @property
    def host(self) -> str:
        return self.live.host.name if self.live.host is not None else ""


class Way:
    """One endpoint's queue and places in this worker."""

    __slots__ = (
        "loaded_at",
        "queue",
        "slots",
        "spec",
        "state",
        "waiters",
        "warm_waiting",
    )

    def __init__(self, spec: EndpointSpec, slots: Slots, state: EndpointState) -> None:
        self.spec, self.slots, self.state = spec, slots, state
        self.queue = Queue(spec.name, spec.max_queue)
        self.waiters: dict[int, Waiter] = {}  # by id of its ticket
        self.loaded_at: dict[str, float] = {}  # by offering: when this worker saw it loaded

    def note(self, now: float) -> None:
        """Let the state say what a new request would find."""
        slots, waiting = self.slots, len(self.queue)
        slots.waiting = waiting
        free = slots.free(now)
        self.state.free_slots, self.state.waiting = free, waiting
        full = free <= 0 or waiting
        places = slots.leased or slots.limit // slots.workers
        self.state.wait_ms = self.queue.expected_s(places) * 1000 if full else 0.0

    @property
    def idle(self) -> bool:
        return self.slots.in_use == 0 and not self.waiters

    def first(self, offering: str) -> Waiter:
        """Return the first of those who wait for an offering."""
        return next(w for w in self.waiters.values() if w.live.id == offering)

    def standing(self, waiter: Waiter) -> tuple[int, int]:
        """Return (position, expected wait in ms)."""
        position = self.queue.position(waiter.ticket)
        expected_s = self.queue.expected_s(self.slots.leased, ahead=position - 1)
        return position, int(expected_s * 1000)

    def warm_waits(self) -> bool:
        return any(waiter.live.loaded for waiter in self.waiters.values())


def waiter_for(
    candidate: Candidate, live: OfferingState, need: Need, at: float, longest_s: float
) -> Waiter:
    """Return who waits since `at`, with the future that its pass will come in."""
    ticket = Ticket(
        offering=live.id,
        rank=RANKS[need.priority],
        at=at,
        longest_s=longest_s,
        tenant=need.tenant,
        share=need.share,
    )
    return Waiter(ticket, candidate, live, need, asyncio.get_running_loop().create_future())

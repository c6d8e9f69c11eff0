"""The way in to every endpoint: a request either passes at once, waits in turn, or is sent on.

Joins a worker's queue (`engine.admission`) with its places (`engine.slots`). With a place free and
nobody waiting, passing costs no waiting and no round trip.
"""

import asyncio
from collections.abc import Callable

from routing.coordination.slots import SlotKeeper
from routing.engine.admission import Readiness
from routing.engine.catalog import EndpointSpec
from routing.engine.concurrency import DOUBLE_EVERY_S, MOST, Outcome
from routing.engine.errors import Crowded, ProviderError, UpstreamBusy, UpstreamTimeout
from routing.engine.need import Need
from routing.engine.policy import Candidate, Policy
from routing.engine.refusal import displaced
from routing.engine.slots import Slots
from routing.engine.state import EndpointState, FleetState, OfferingState
from routing.lanes.job import OnWait
from routing.lanes.loads import Load, Loader, LocalLoads
from routing.lanes.way import Waiter, Way, waiter_for
from telemetry.queue_news import EndpointQueue

# A load that another worker or node has under way is looked at again after this long.
RETRY_LOAD_S = 0.25
# The longest wait for the first places of an idle endpoint, from who would not wait at all.
GRACE_S = 0.25


class Pass:
    """The right to make one call; `leave` ends it, once."""

    __slots__ = ("_gate", "_left", "at", "cold", "in_turn", "live", "load", "queued_s", "way")

    def __init__(
        self, gate: "Gate", way: Way, live: OfferingState, at: float, load: Load | None
    ) -> None:
        self._gate, self.way, self.live, self.at, self.load = gate, way, live, at, load
        self.cold = load is not None
        self.queued_s = 0.0
        self.in_turn = False  # it waited behind others, or longer than a round trip or two
        self._left = False

    def answering(self, ttft_ms: float | None) -> None:
        """Say that the model speaks, so long after it was asked; None: the time says nothing."""
        self._gate.begun(self, ttft_ms)

    def leave(self, outcome: Outcome | None = None) -> None:
        """Give the place back; without an outcome nothing is learned of the endpoint."""
        if not self._left:
            self._left = True
            self._gate.left(self, outcome)


class Gate:
    """All ways of one worker."""

    def __init__(self, clock: Callable[[], float], *, shared: bool = False) -> None:
        self.clock = clock
        self.shared = shared
        self.loads = LocalLoads(clock)
        # Without one, the call itself makes the engine load.
        self.loader: Loader | None = None
        self.opened: Callable[[Slots, str], None] = _ignore
        self.dropped: Callable[[str], None] = _ignore
        self.hurry: Callable[[str], None] = _ignore
        self.ways: dict[str, Way] = {}

    def share(self, keeper: SlotKeeper) -> None:
        """Share the places with other workers from now on; call it before the first policy."""
        self.shared = True
        self.opened, self.dropped, self.hurry = keeper.keep, keeper.drop, keeper.hurry
        keeper.changed = self.pump

    def queues(self) -> tuple[EndpointQueue, ...]:
        """Return who runs and waits where, for operators."""
        return tuple(
            EndpointQueue(
                endpoint=name,
                running=way.slots.in_use,
                waiting=len(way.queue),
                limit=way.slots.limit,
                expected_wait_ms=int(way.state.wait_ms),
                degraded=way.slots.degraded,
            )
            for name, way in self.ways.items()
        )

    def bind(self, policy: Policy, state: FleetState) -> None:
        """Align with a policy: an endpoint that changed begins anew, with those who wait."""
        for name in set(self.ways) - set(policy.endpoints):
            self._close(self.ways.pop(name))
            self.dropped(name)
        for name, spec in policy.endpoints.items():
            way, endpoint = self.ways.get(name), state.endpoint(name)
            if way is None or _differs(way.spec, spec):
                if way is not None:
                    self._close(way)
                self._open(spec, endpoint)
                continue
            way.spec, way.state = spec, endpoint
            way.queue.limit = spec.max_queue

    def try_enter(self, candidate: Candidate, live: OfferingState, need: Need) -> Pass | None:
        """Return a pass if the call may begin at once: a place is free, and nobody waits for it."""
        way = self.ways.get(candidate.endpoint_name)
        now = self.clock()
        if way is None or not live.loaded or way.slots.free(now) <= 0:
            return None
        if way.waiters and way.warm_waits():
            return None
        return self._let_in(way, live, now, None)

    async def enter(
        self,
        candidate: Candidate,
        live: OfferingState,
        need: Need,
        *,
        longest_s: float,
        on_wait: OnWait | None = None,
    ) -> Pass:
        """Return a pass once it is this request's turn; raises Crowded if that is too late."""
        way = self.ways.get(candidate.endpoint_name)
        if way is None:
            name = candidate.endpoint_name
            raise Crowded(name, f"Endpoint '{name}' is no longer part of the policy.")
        began, idle = self.clock(), way.idle
        # An idle endpoint's places are one round trip away: that is no waiting in turn.
        end = began + (max(longest_s, GRACE_S) if idle else longest_s)
        waiter = waiter_for(candidate, live, need, began, end - began)
        self._check(way, waiter)
        self._join(way, waiter)
        if on_wait is not None and not waiter.passed.done():
            on_wait(*way.standing(waiter))
        while (passed := await self._turn(way, waiter, end)) is None:
            await self._load(way, waiter, end)
            # Whatever came of it, its place in the order of arrival stays.
            waiter = waiter_for(candidate, live, need, began, end - began)
            self._join(way, waiter)
        passed.queued_s = self.clock() - began
        passed.in_turn = not idle or passed.queued_s > GRACE_S
        return passed

    def left(self, passed: Pass, outcome: Outcome | None) -> None:
        """Take a pass back."""
        way, now = passed.way, self.clock()
        slots = way.slots
        slots.give(now, passed.live.id, outcome)
        if passed.load is not None:
            self._load_ended(passed, ok=outcome is not None and outcome.ok)
        if outcome is not None and outcome.ok:
            way.queue.served(now - passed.at)
        if slots.urgent or slots.signals.saturated:
            self._adapt(slots, now)
        if way.waiters:
            self.pump(way.spec.name)
        else:
            way.note(now)

    def begun(self, passed: Pass, ttft_ms: float | None) -> None:
        """Note that an answer has begun: whatever had to be loaded for it is loaded."""
        way, now = passed.way, self.clock()
        if passed.load is not None:
            self._load_ended(passed, ok=True)
            self.pump(way.spec.name)
        if ttft_ms is not None and not passed.cold:
            way.slots.begun(passed.live.id, ttft_ms)
            if way.slots.signals.saturated:
                self._adapt(way.slots, now)
                if way.waiters:
                    self.pump(way.spec.name)

    def pump(self, endpoint: str) -> None:
        """Let in whoever can go now."""
        way = self.ways.get(endpoint)
        if way is None:
            return
        now = self.clock()
        if self.loader is not None:
            self._start_load(way, self.loader, now)

        def ready(offering: str) -> Readiness:
            return self._readiness(way, way.first(offering), now)

        while way.waiters and way.slots.free(now) > 0:
            ticket = way.queue.take(now, ready)
            if ticket is None:
                break
            self._grant(way, way.waiters.pop(id(ticket)), now)
        way.note(now)

    def _open(self, spec: EndpointSpec, state: EndpointState) -> None:
        slots = Slots(spec.name, spec.provider, spec.max_concurrency, shared=self.shared)
        self.ways[spec.name] = way = Way(spec, slots, state)
        self.opened(slots, spec.provider)
        way.note(self.clock())

    def _close(self, way: Way) -> None:
        for waiter in list(way.waiters.values()):
            way.queue.withdraw(waiter.ticket)
            if not waiter.passed.done():
                waiter.passed.set_exception(way.queue.crowded("was changed in the policy", 1.0))
        way.waiters.clear()

    def _check(self, way: Way, waiter: Waiter) -> None:
        """Raise Crowded where waiting is of no use."""
        free = way.slots.free(self.clock()) > 0 and not way.waiters
        if not (free or way.idle):
            # Until it has complained, nobody knows how soon it would be this one's turn.
            way.queue.check(waiter.ticket, way.slots.places if way.slots.settled else MOST)

    def _join(self, way: Way, waiter: Waiter) -> None:
        """Queue a request, and let in whoever can go."""
        way.queue.add(waiter.ticket)
        way.waiters[id(waiter.ticket)] = waiter
        self.pump(way.spec.name)
        if not waiter.passed.done():
            self.hurry(way.spec.name)

    async def _turn(self, way: Way, waiter: Waiter, end: float) -> Pass | None:
        if waiter.passed.done():
            return waiter.passed.result()
        try:
            async with asyncio.timeout(end - self.clock()):
                return await asyncio.shield(waiter.passed)
        except BaseException as exc:
            self._abandon(way, waiter)
            if isinstance(exc, TimeoutError):
                wait_s = way.queue.expected_s(way.slots.leased)
                raise way.queue.crowded("had no place in time", wait_s) from exc
            raise

    def _start_load(self, way: Way, loader: Loader, now: float) -> None:
        """Let one of those who wait load its model; that takes no place from the loaded ones."""

        def ready(offering: str) -> Readiness:
            first = way.first(offering)
            if not loader.needs(first.candidate, first.live) or self.loads.busy(first.host):
                return Readiness(False)
            return Readiness(False, self._may_displace(way, first, now))

        while way.waiters and (ticket := way.queue.take(now, ready)) is not None:
            waiter = way.waiters.pop(id(ticket))
            self.loads.begin(waiter.host, waiter.live.id)
            waiter.passed.set_result(None)

    async def _load(self, way: Way, waiter: Waiter, end: float) -> None:
        if self.loader is None:
            return
        load = self.loads.under_way(waiter.host)
        try:
            done = await self.loader.load(waiter.candidate, waiter.live, waiter.need, end)
            if done:
                way.loaded_at[waiter.live.id] = self.clock()
            else:
                self.loads.hold(waiter.host, RETRY_LOAD_S)
                asyncio.get_running_loop().call_later(RETRY_LOAD_S, self._pump_all)
        finally:
            if load is not None:
                self.loads.end(load)
            self._pump_all()

    def _pump_all(self) -> None:
        for name, way in self.ways.items():
            if way.waiters:
                self.pump(name)

    def _abandon(self, way: Way, waiter: Waiter) -> None:
        if way.queue.withdraw(waiter.ticket):
            way.waiters.pop(id(waiter.ticket), None)
            way.note(self.clock())
        elif waiter.passed.done() and waiter.passed.exception() is None:
            passed = waiter.passed.result()
            if passed is not None:
                passed.leave()
            elif (load := self.loads.under_way(waiter.host)) is not None:
                self.loads.end(load)
                self._pump_all()
        waiter.passed.cancel()

    def _let_in(self, way: Way, live: OfferingState, now: float, load: Load | None) -> Pass:
        way.slots.take(now)
        way.note(now)
        return Pass(self, way, live, now, load)

    def _readiness(self, way: Way, waiter: Waiter, now: float) -> Readiness:
        live = waiter.live
        if live.loaded or live.host is None:
            return Readiness(True)
        if self.loader is not None:
            # Whoever must be loaded first has its turn there; others load as they are asked.
            return Readiness(not self.loader.needs(waiter.candidate, live))
        if self.loads.busy(waiter.host):
            return Readiness(False)
        return Readiness(False, self._may_displace(way, waiter, now))

    def _may_displace(self, way: Way, waiter: Waiter, now: float) -> bool:
        """Return False if the load would push out a model loaded lately that others wait for."""
        live, critical = waiter.live, waiter.need.priority == "critical"
        if live.host is None or displaced(live, live.host, now, critical=critical) == ():
            return True
        lately = [name for name, at in way.loaded_at.items() if now - at < way.spec.min_residency_s]
        return not way.queue.waits_for(name for name in lately if name != waiter.live.id)

    def _grant(self, way: Way, waiter: Waiter, now: float) -> None:
        load = None
        if self.loader is None and not waiter.live.loaded and waiter.live.host is not None:
            load = self.loads.begin(waiter.live.host.name, waiter.live.id)
        waiter.passed.set_result(self._let_in(way, waiter.live, now, load))

    def _load_ended(self, passed: Pass, *, ok: bool) -> None:
        load, passed.load = passed.load, None
        if load is None:
            return
        self.loads.end(load)
        if ok:
            way, live = passed.way, passed.live
            way.loaded_at[live.id] = self.clock()
            live.endpoint.loaded |= {live.upstream_model}
            live.refresh()
        self._pump_all()

    def _adapt(self, slots: Slots, now: float) -> None:
        if not slots.due(now, DOUBLE_EVERY_S):
            return
        if slots.shared:
            self.hurry(slots.endpoint)
        else:
            slots.adapt_alone(now)


def outcome_of(error: ProviderError) -> Outcome:
    """Return what a failed call says of how much its endpoint bears."""
    return Outcome(ok=False, refused=isinstance(error, UpstreamBusy | UpstreamTimeout))


def _differs(old: EndpointSpec, new: EndpointSpec) -> bool:
    """Return True if the name stands for another server, or one that bears something else."""
    same = ("base_url", "provider", "max_concurrency")
    return any(getattr(old, name) != getattr(new, name) for name in same)


def _ignore(*anything: object) -> None:
    """Without Redis there is nobody to tell."""

"""What changes by the millisecond: one worker's picture of endpoints, hosts and offerings.

Plain mutable values, changed only from the event loop's thread. Offering states outlive policies: a
new policy is bound to the states that already exist for its offerings.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from routing.engine.breaker import Breaker
from routing.engine.durations import Durations
from routing.engine.memory import Learned, Resident
from routing.engine.pace import UsualPace
from routing.engine.policy import Candidate, Policy
from routing.engine.pressure import level_of, next_level

# Weight of the newest observation in the moving averages: the last ten or so dominate.
EWMA_ALPHA = 0.2
# An older measurement of a host that does not say how often it reports says nothing.
HOST_STALE_S = 60.0


@dataclass(frozen=True, slots=True)
class HostLoad:
    """A load that takes memory of a host; times are monotonic seconds."""

    need_gb: float
    ready_at: float  # when it should be done; 0: it is
    lapses_at: float
    floor_gb: float  # what will be available once all of it is visible


@dataclass(slots=True)
class HostState:
    """Memory of one machine; `known` is False until it was measured."""

    name: str
    known: bool = False
    available_gb: float = 0.0
    total_gb: float = 0.0
    pressure: float = 0.0
    cpu_percent: float = 0.0
    swap_percent: float = 0.0
    at: float = 0.0
    loads: dict[str, HostLoad] = field(default_factory=dict)  # under way or just done, anybody's
    reserved_gb: float = 0.0  # what they need and no measurement shows yet
    loading: str = ""  # the key of the one under way
    ready_at: float = 0.0  # when that one should be done
    alone_until: float = 0.0  # until then loads cannot be coordinated

    stale_after_s: float = HOST_STALE_S
    level: str = ""  # with hysteresis: see `press`

    def __post_init__(self) -> None:
        self.level = self.level or level_of(self.pressure)

    def press(self, pressure: float) -> None:
        """Take in a pressure; the level goes down only well below where it went up."""
        self.pressure = pressure
        self.level = next_level(self.level, pressure)

    def fresh(self, now: float) -> bool:
        """Return whether the host's memory is known at `now` (seconds, monotonic)."""
        return self.known and now - self.at <= self.stale_after_s

    def room_gb(self, *, critical: bool) -> float:
        """Return the memory a cold load may take: what is available less the safety buffer.

        The buffer is a tenth of the host; only critical requests may use it, down to a fiftieth.
        """
        buffer_gb = self.total_gb * (0.02 if critical else 0.10)
        return self.available_gb - buffer_gb

    def note_load(
        self, key: str, need_gb: float, *, ready_at: float, lapses_at: float, now: float
    ) -> None:
        """Take note of a load; one that is done counts until measurements can show it."""
        known = self.loads.get(key)
        floor_gb = known.floor_gb if known else self.available_gb - need_gb
        self.loads[key] = HostLoad(need_gb, ready_at, lapses_at, floor_gb)
        self.lapse(now)

    def forget_load(self, key: str, now: float) -> None:
        self.loads.pop(key, None)
        self.lapse(now)

    def lapse(self, now: float) -> None:
        """Forget the loads whose time is up, and see how much of the others is visible."""
        self.loads = {key: load for key, load in self.loads.items() if load.lapses_at > now}
        hidden = (self.available_gb - load.floor_gb for load in self.loads.values())
        needs = (load.need_gb for load in self.loads.values())
        self.reserved_gb = sum(
            min(need, max(left, 0.0)) for need, left in zip(needs, hidden, strict=True)
        )
        under_way = [(load.ready_at, key) for key, load in self.loads.items() if load.ready_at]
        self.ready_at, self.loading = max(under_way, default=(0.0, ""))


@dataclass(slots=True)
class Departure:
    """A model that is being unloaded, with what was known of it."""

    until: float  # what is seen of the engine before then does not count; monotonic
    size_gb: float = 0.0
    loaded_at: float | None = None  # None: it was not loaded


@dataclass(slots=True)
class EndpointState:
    """What the prober last said of an endpoint; `up` is None until it said anything."""

    name: str
    up: bool | None = None
    loaded: frozenset[str] = frozenset()
    available: frozenset[str] | None = None
    simulated: bool = False
    version: str = ""
    at: float = 0.0
    offerings: list["OfferingState"] = field(default_factory=list, repr=False)  # all it serves
    sizes_gb: dict[str, float] = field(default_factory=dict)  # of `loaded`, where it tells
    loaded_at: dict[str, float] = field(default_factory=dict)  # monotonic, by upstream name
    departures: dict[str, Departure] = field(default_factory=dict)  # by upstream name
    kept_until: dict[str, float] = field(default_factory=dict)  # others use it: no victim
    vanished_at: float = -math.inf  # its process was gone then, and all it held
    min_residency_s: float = 0.0
    # What a new request would find; kept up to date by the gate of this worker.
    wait_ms: float = 0.0
    free_slots: int = 1
    waiting: int = 0

    def depart(self, names: Iterable[str], until: float) -> None:
        """Take models for not loaded from now on; looks before `until` do not count for them."""
        spelled = _all_spellings(names)
        for name in spelled:
            was = self.loaded_at.pop(name, 0.0) if name in self.loaded else None
            self.departures[name] = Departure(until, self.sizes_gb.pop(name, 0.0), was)
        self.loaded -= spelled

    def departed(self, names: Iterable[str], now: float) -> None:
        """End a departure: whoever looks from now on sees what is there."""
        for name in _all_spellings(names):
            if (departure := self.departures.get(name)) is not None:
                departure.until = now

    def stay(self, names: Iterable[str], kept_until: float) -> None:
        """Call a departure off: others use these models, at least until then."""
        for name in _all_spellings(names):
            self.kept_until[name] = kept_until
            departure = self.departures.pop(name, None)
            if departure is not None and departure.loaded_at is not None:
                self.loaded |= {name}
                self.loaded_at[name] = departure.loaded_at
                if departure.size_gb:
                    self.sizes_gb[name] = departure.size_gb

    def vanish(self, now: float) -> None:
        """Take everything for unloaded: the process that held it is gone."""
        self.vanished_at = now
        self.loaded = frozenset()
        self.sizes_gb, self.loaded_at = {}, {}

    def countable(self, names: Iterable[str], seen_at: float) -> list[str]:
        """Return those of the names seen loaded at `seen_at` that may be taken for loaded."""
        if seen_at <= self.vanished_at:
            return []
        gone = self.departures
        return [n for n in names if n not in gone or seen_at > gone[n].until]

    def residents(self) -> list[Resident]:
        """Return what is in its memory; a model that nobody offers was last used long ago."""
        used = {name: o for o in self.offerings for name in _spellings(o.upstream_model)}
        found = []
        for name, size_gb in self.sizes_gb.items():
            if name not in self.loaded:
                continue
            offering = used.get(name)
            since = self.loaded_at.get(name, 0.0)
            kept = self.kept_until.get(name, 0.0)
            if offering is None:
                found.append(Resident(name, size_gb, since, since, kept_until=kept))
                continue
            at = max(offering.used_at, since)
            busy, load_ms = offering.in_flight, offering.load_ms
            found.append(Resident(name, size_gb, since, at, busy, load_ms, kept))
        return found


class OfferingState:
    """Breaker, load and observed speed of one offering."""

    __slots__ = (
        "answer_times",
        "available",
        "breaker",
        "endpoint",
        "first_token_times",
        "healthy",
        "host",
        "id",
        "in_flight",
        "load_key",
        "load_ms",
        "loaded",
        "ms_per_token",
        "need_gb",
        "success_rate",
        "ttft_ms",
        "unusable",
        "upstream_model",
        "usual",
        "used_at",
    )

    def __init__(
        self, candidate: Candidate, endpoint: EndpointState, host: HostState | None
    ) -> None:
        self.id = candidate.id
        self.upstream_model = candidate.upstream_model
        self.breaker = Breaker()
        self.endpoint = endpoint
        self.host = host
        self.healthy = True  # what the outside says (`model.health_changed`)
        self.in_flight = 0
        self.success_rate = 1.0
        self.ttft_ms = candidate.ttft_prior_ms
        self.ms_per_token = candidate.ms_per_token_prior
        self.usual = UsualPace()
        # What callers waited for streams and for whole answers, where nothing had to be loaded.
        self.first_token_times = Durations()
        self.answer_times = Durations()
        self.loaded = host is None
        self.available = True
        self.used_at = 0.0  # when this worker last called it, monotonic
        self.load_key = candidate.load_key
        self.need_gb = candidate.ram_gb  # corrected by what was seen, as is `load_ms`
        self.load_ms = candidate.load_prior_ms
        self.unusable = ""  # reason code that no request can change, or ""
        self.refresh()

    @property
    def names(self) -> frozenset[str]:
        """Return the ways its endpoint may write its model."""
        return _spellings(self.upstream_model)

    def refresh(self) -> None:
        """Recompute what follows from the endpoint's news."""
        endpoint = self.endpoint
        names = _spellings(self.upstream_model)
        # Without a host to watch there is nothing to load into: another's cloud is always warm.
        self.loaded = self.host is None or not endpoint.loaded.isdisjoint(names)
        self.available = endpoint.available is None or not endpoint.available.isdisjoint(names)
        self.unusable = self._unusable()

    def _unusable(self) -> str:
        if not self.healthy:
            return "unhealthy"
        if self.endpoint.up is False:
            return "endpoint_down"
        return "" if self.available else "not_offered"

    def observe(self, *, duration_ms: float, output_tokens: int, ttft_ms: float | None) -> None:
        """Learn from one answer (milliseconds, tokens); callers leave cold loads out."""
        # An upstream may claim a load that took longer than its whole answer.
        duration_ms = max(duration_ms, 0.0)
        self.success_rate += EWMA_ALPHA * (1.0 - self.success_rate)
        if ttft_ms is not None:
            self.ttft_ms += EWMA_ALPHA * (max(ttft_ms, 0.0) - self.ttft_ms)
            duration_ms = max(duration_ms - ttft_ms, 0.0)
        elif output_tokens:
            # The whole answer came at once: split it as the averages so far suggest.
            known = self.ttft_ms + self.ms_per_token * output_tokens
            scale = 1 + EWMA_ALPHA * (duration_ms / max(known, 0.001) - 1)
            self.ttft_ms *= scale
            self.ms_per_token *= scale
            return
        if output_tokens:
            per_token = duration_ms / output_tokens
            self.ms_per_token += EWMA_ALPHA * (per_token - self.ms_per_token)

    def queue_ms(self, tokens: int) -> float:
        """Return the wait behind the other requests in flight at its endpoint, in ms.

        As if one were answered after another, each with `tokens` at its model's pace; 0 at
        endpoints without a host of their own to watch, which are many servers behind one name.
        """
        if self.host is None:
            return 0.0
        waits = ((o.ttft_ms + o.ms_per_token * tokens, o) for o in self.endpoint.offerings)
        return sum(ms * (o.in_flight - (o is self)) for ms, o in waits if o.in_flight > 0)

    def observe_failure(self) -> None:
        self.success_rate -= EWMA_ALPHA * self.success_rate


def _all_spellings(names: Iterable[str]) -> set[str]:
    return {spelling for name in names for spelling in _spellings(name)}


def _spellings(name: str) -> frozenset[str]:
    """Return the ways Ollama may write a model name: `x` and `x:latest` are the same."""
    if name.endswith(":latest"):
        return frozenset((name, name.removesuffix(":latest")))
    return frozenset((name,) if ":" in name else (name, f"{name}:latest"))


@dataclass(slots=True)
class FleetState:
    """All states of one worker, and the list that aligns them with the bound policy."""

    endpoints: dict[str, EndpointState] = field(default_factory=dict)
    hosts: dict[str, HostState] = field(default_factory=dict)
    offerings: dict[str, OfferingState] = field(default_factory=dict)
    live: list[OfferingState] = field(default_factory=list)
    unhealthy: set[tuple[str, str]] = field(default_factory=set)  # (model, endpoint or "")
    learned: dict[str, Learned] = field(default_factory=dict)  # by `Candidate.load_key`
    # Lower bounds over all offerings since the last bind: they bound every latency score above.
    least_ttft_ms: float = 0.0
    least_ms_per_token: float = 0.0

    def bind(self, policy: Policy) -> None:
        """Align with `policy`: keep what is known of its offerings, forget the others."""
        kept = {c.id: self._offering(c) for c in policy.candidates}
        self.offerings = kept
        self.live = [kept[c.id] for c in policy.candidates]
        self._gather()
        for name, spec in policy.endpoints.items():
            self.endpoint(name).min_residency_s = spec.min_residency_s
        for candidate, state in zip(policy.candidates, self.live, strict=True):
            state.healthy = not self._is_unhealthy(candidate.model_name, candidate.endpoint_name)
            self._recall(candidate, state)
            state.refresh()
        self.least_ttft_ms = min((s.ttft_ms for s in self.live), default=0.0)
        self.least_ms_per_token = min((s.ms_per_token for s in self.live), default=0.0)

    def _gather(self) -> None:
        for endpoint in self.endpoints.values():
            endpoint.offerings = []
        for state in self.live:
            state.endpoint.offerings.append(state)

    def _recall(self, candidate: Candidate, state: OfferingState) -> None:
        """Let what was learned of a load stand for what is planned, whatever the policy."""
        known = self.learned.get(candidate.load_key) or Learned()
        state.load_key = candidate.load_key
        state.need_gb = known.need_gb or candidate.ram_gb
        state.load_ms = known.load_ms or candidate.load_prior_ms

    def learn_load(self, key: str, *, need_gb: float = 0.0, load_ms: float = 0.0) -> None:
        """Take over what a load needs or takes, as measured; 0 says nothing."""
        known = self.learned.setdefault(key, Learned())
        known.need_gb = need_gb or known.need_gb
        known.load_ms = load_ms or known.load_ms
        for state in self.live:
            if state.load_key == key:
                state.need_gb = known.need_gb or state.need_gb
                state.load_ms = known.load_ms or state.load_ms

    def frozen(self) -> "FleetState":
        """Return a view that stays aligned with the policy bound now when another one is bound.

        It shares the states themselves; its bounds are the loosest, which is always true.
        """
        return FleetState(self.endpoints, self.hosts, self.offerings, self.live, self.unhealthy)

    def observe(
        self,
        offering: OfferingState,
        *,
        duration_ms: float,
        output_tokens: int,
        ttft_ms: float | None,
    ) -> None:
        """Let `offering` learn from an answer, and keep the lower bounds true."""
        offering.observe(duration_ms=duration_ms, output_tokens=output_tokens, ttft_ms=ttft_ms)
        self.least_ttft_ms = min(self.least_ttft_ms, offering.ttft_ms)
        self.least_ms_per_token = min(self.least_ms_per_token, offering.ms_per_token)

    def _offering(self, candidate: Candidate) -> OfferingState:
        endpoint = self.endpoint(candidate.endpoint_name)
        host = self.host(candidate.host) if candidate.host else None
        state = self.offerings.get(candidate.id)
        if state is None:
            return OfferingState(candidate, endpoint, host)
        state.host = host
        state.upstream_model = candidate.upstream_model
        state.refresh()
        return state

    def endpoint(self, name: str) -> EndpointState:
        return self.endpoints.setdefault(name, EndpointState(name))

    def host(self, name: str) -> HostState:
        return self.hosts.setdefault(name, HostState(name))

    def endpoint_changed(self, name: str) -> None:
        for state in self.live:
            if state.endpoint.name == name:
                state.refresh()

    def forget_endpoint(self, name: str) -> None:
        """Drop what was seen of an endpoint: from now on the name stands for another server."""
        gone = self.endpoint(name)
        self.endpoints[name] = endpoint = EndpointState(name, offerings=gone.offerings)
        endpoint.min_residency_s = gone.min_residency_s
        for state in self.live:
            if state.endpoint.name == name:
                state.endpoint = endpoint
                state.breaker.reset()
                state.refresh()

    def model_health(self, model: str, endpoint: str, *, healthy: bool) -> None:
        """Take outside word on a model, at one endpoint or (empty) wherever it is offered."""
        if healthy:
            self.unhealthy.discard((model, endpoint))
        else:
            self.unhealthy.add((model, endpoint))
        for state in self.live:
            name, _, where = state.id.rpartition("@")
            state.healthy = not self._is_unhealthy(name, where)
            state.refresh()

    def _is_unhealthy(self, model: str, endpoint: str) -> bool:
        return (model, "") in self.unhealthy or (model, endpoint) in self.unhealthy

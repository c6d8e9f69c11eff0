"""What changes by the millisecond: one worker's picture of endpoints, hosts and offerings.

Plain mutable values, changed only from the event loop's thread. Offering states outlive policies: a
new policy is bound to the states that already exist for its offerings.
"""

from dataclasses import dataclass, field

from routing.engine.breaker import Breaker
from routing.engine.policy import Candidate, Policy

# Weight of the newest observation in the moving averages: the last ten or so dominate.
EWMA_ALPHA = 0.2
PRESSURE_LEVELS = ((0.90, "critical"), (0.80, "high"), (0.70, "elevated"))


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

    @property
    def level(self) -> str:
        """Return normal, elevated (0.70), high (0.80) or critical (0.90)."""
        for threshold, name in PRESSURE_LEVELS:
            if self.pressure >= threshold:
                return name
        return "normal"

    def room_gb(self, *, critical: bool) -> float:
        """Return the memory a cold load may take: what is available less the safety buffer.

        The buffer is a tenth of the host; only critical requests may use it, down to a fiftieth.
        """
        buffer_gb = self.total_gb * (0.02 if critical else 0.10)
        return self.available_gb - buffer_gb


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
    # What a new request would find; kept up to date by the gate of this worker.
    wait_ms: float = 0.0
    free_slots: int = 1
    waiting: int = 0


class OfferingState:
    """Breaker, load and observed speed of one offering."""

    __slots__ = (
        "available",
        "breaker",
        "endpoint",
        "healthy",
        "host",
        "id",
        "in_flight",
        "loaded",
        "ms_per_token",
        "success_rate",
        "ttft_ms",
        "unusable",
        "upstream_model",
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
        self.loaded = host is None
        self.available = True
        self.unusable = ""  # reason code that no request can change, or ""
        self.refresh()

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

    def observe_failure(self) -> None:
        self.success_rate -= EWMA_ALPHA * self.success_rate


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
    # Lower bounds over all offerings since the last bind: they bound every latency score above.
    least_ttft_ms: float = 0.0
    least_ms_per_token: float = 0.0

    def bind(self, policy: Policy) -> None:
        """Align with `policy`: keep what is known of its offerings, forget the others."""
        kept = {c.id: self._offering(c) for c in policy.candidates}
        self.offerings = kept
        self.live = [kept[c.id] for c in policy.candidates]
        for candidate, state in zip(policy.candidates, self.live, strict=True):
            state.healthy = not self._is_unhealthy(candidate.model_name, candidate.endpoint_name)
            state.refresh()
        self.least_ttft_ms = min((s.ttft_ms for s in self.live), default=0.0)
        self.least_ms_per_token = min((s.ms_per_token for s in self.live), default=0.0)

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
        self.endpoints[name] = endpoint = EndpointState(name)
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

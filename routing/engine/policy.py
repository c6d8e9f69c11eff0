"""The compiled policy: a document indexed for deciding. Immutable; swapped whole.

Everything that does not change between requests is worked out here: which offerings can do a task,
their prices in nano-dollars, and the part of their score that no measurement moves.
"""

import difflib
import math

from routing.engine.callers import Caller, callers_by_digest
from routing.engine.catalog import (
    DEFAULT_PROFILES,
    TIER_RANK,
    ChainSpec,
    EndpointSpec,
    ModelSpec,
    OfferingSpec,
    PolicyDocument,
    PriceSpec,
    ProfileSpec,
)
from routing.engine.memory import load_key, planned_need_gb
from routing.engine.money import Price, hour_nusd, of_host, of_model, of_spec
from routing.engine.prices import Prices

# Before an offering was ever called: (ms to the first token, ms per token). Ranges of Ollama on a
# desktop CPU or a small GPU; the first answers replace them (see OfferingState.observe).
SPEED_PRIOR_MS: dict[str, tuple[float, float]] = {
    "fast": (250.0, 15.0),
    "medium": (600.0, 40.0),
    "slow": (1500.0, 120.0),
}
# Reading weights from a SATA SSD, about 0.5 GB/s: the prior for a cold start.
LOAD_PRIOR_MS_PER_GB = 2000.0
# A price of this much per thousand tokens in and out halves the cost score.
COST_HALF_NUSD = 2_000_000.0


class Candidate:
    """One offering, ready to be decided about."""

    __slots__ = (
        "context_length",
        "cost_score",
        "endpoint",
        "endpoint_name",
        "excess_tokens",
        "host",
        "hour_nusd",
        "id",
        "index",
        "load_key",
        "load_prior_ms",
        "model",
        "model_name",
        "ms_per_token_prior",
        "offering",
        "price",
        "quality",
        "ram_gb",
        "rank",
        "ttft_prior_ms",
        "upstream_model",
    )

    def __init__(
        self,
        index: int,
        offering: OfferingSpec,
        model: ModelSpec,
        endpoint: EndpointSpec,
        price: Price | None,
        hour_nusd: int | None = None,
    ) -> None:
        self.index = index
        self.offering = offering
        self.model = model
        self.endpoint = endpoint
        self.id = f"{model.name}@{endpoint.name}"
        self.model_name = model.name
        self.endpoint_name = endpoint.name
        self.upstream_model = offering.upstream_model or model.name
        self.host = endpoint.host
        self.rank = TIER_RANK[model.quality_tier]
        self.quality = self.rank / 3
        # A pinned context is what the engine was told to load; asking beyond it would be cut.
        self.context_length = min(offering.num_ctx or model.context_length, model.context_length)
        self.ram_gb = planned_need_gb(
            model.ram_required_gb, model.kv_mb_per_1k_tokens, offering.num_ctx
        )
        self.load_key = load_key(
            endpoint.host, endpoint.name, self.upstream_model, offering.num_ctx
        )
        self.ttft_prior_ms, self.ms_per_token_prior = SPEED_PRIOR_MS[model.speed]
        # None: nobody knows what it costs. A host's hour is a price once a speed is put to it.
        self.price, self.hour_nusd = price, hour_nusd
        if price is None and hour_nusd is not None:
            self.price = of_host(hour_nusd, self.ms_per_token_prior)
        # Tokens that its template was seen to add beyond what is reckoned with.
        self.excess_tokens = 0
        self.load_prior_ms = LOAD_PRIOR_MS_PER_GB * self.ram_gb
        self.cost_score = self._cost_score()

    def _cost_score(self) -> float:
        """Return 1 for free, 0.5 at COST_HALF_NUSD, 0 where the price is not known."""
        price = self.price
        if price is None:
            return 0.0
        return COST_HALF_NUSD / (COST_HALF_NUSD + price.input_nusd + price.output_nusd)

    def see_speed(self, ms_per_token: float) -> None:
        """Let a measured speed make the price, where it is the host's time that is paid for."""
        if self.hour_nusd is not None:
            self.price = of_host(self.hour_nusd, ms_per_token)

    def cost_bound_nusd(self, prompt_tokens: int, output_tokens: int) -> int | None:
        """Return the most these tokens can cost, rounded up, or None where a price is unknown."""
        price = self.price
        return None if price is None else price.bound_nusd(prompt_tokens, output_tokens)

    def __repr__(self) -> str:
        return f"Candidate({self.id})"


class Policy:
    """An immutable, indexed snapshot of everything an admin decided, with the prices of a time.

    `at_s` is that time (epoch): from `reprice_at_s` on, other prices count. Without one the last of
    each model's prices counts.
    """

    def __init__(self, document: PolicyDocument, at_s: float = math.inf) -> None:
        self.document = document
        self.version = document.version
        self.models = {m.name: m for m in document.models if m.enabled}
        self.endpoints = {e.name: e for e in document.endpoints if e.enabled}
        self._at_s = at_s
        self._prices = Prices(document.prices, self.models)
        self.reprice_at_s = self._prices.next_change_s(at_s)
        self._hours = {cost.host: hour_nusd(cost) for cost in document.host_costs}
        self.profiles: dict[str, ProfileSpec] = {p.priority: p for p in DEFAULT_PROFILES}
        self.profiles |= {p.priority: p for p in document.profiles}
        # (latency, memory, success) as shares of the whole: what measurements can add to a score.
        self.dynamic_weights = {p: self._dynamic_weights(p) for p in self.profiles}
        self.candidates = self._candidates(document.offerings)
        self.by_id = {c.id: c for c in self.candidates}
        self.by_model: dict[str, list[Candidate]] = {}
        for candidate in self.candidates:
            self.by_model.setdefault(candidate.model_name, []).append(candidate)
        chains = [c for c in document.chains if c.enabled]
        self._chain_for_model: dict[str, ChainSpec] = {c.for_model: c for c in chains}
        self._chain_for_task: dict[str | None, ChainSpec] = {c.for_task: c for c in chains}
        self.tenants = {t.name: t for t in document.tenants if t.enabled}
        self.keys = {k.name: k for k in document.keys if k.enabled and k.tenant in self.tenants}
        # By the keyed hash of the whole token: who comes with which key.
        self.caller_by_digest: dict[bytes, Caller] = callers_by_digest(
            self.tenants, self.keys.values(), self.find_model
        )
        self.budgets = tuple(b for b in document.budgets if b.enabled)
        self.host_costs = {cost.host: cost for cost in document.host_costs}
        self.savings = document.savings
        self._ordered: dict[tuple[str, str, int], list[tuple[float, Candidate]]] = {}
        self._by_name: dict[str, list[Candidate]] = {}
        self.baseline = self._baseline()

    def _candidates(self, offerings: tuple[OfferingSpec, ...]) -> list[Candidate]:
        live = [
            o
            for o in offerings
            if o.enabled and o.model in self.models and o.endpoint in self.endpoints
        ]
        # Offered twice is offered once, as it was said last.
        once = {(o.model, o.endpoint): o for o in live}.values()
        return [self._candidate(i, o) for i, o in enumerate(once)]

    def _candidate(self, index: int, offering: OfferingSpec) -> Candidate:
        """Return an offering with its price: a dated one, else its host's time, else its model's.

        A price given with a date is somebody's word; a model's own may be discovery's zero.
        """
        model, endpoint = self.models[offering.model], self.endpoints[offering.endpoint]
        dated = self._prices.dated(model.name, self._at_s)
        price = None if dated is None else of_spec(dated)
        hour = self._hours.get(endpoint.host) if price is None and endpoint.host else None
        if price is None and hour is None:
            price = of_model(model)
        return Candidate(index, offering, model, endpoint, price, hour)

    def _baseline(self) -> Candidate | None:
        """Return the model that costs are compared with, for its prices; nobody need offer it."""
        name = self.document.savings.baseline
        if offered := self.by_model.get(name):
            return offered[0]
        model = next((m for m in self.document.models if m.name == name), None)
        if model is None:
            return None
        nowhere = EndpointSpec(name="", provider="openai", base_url="")
        dated = self._prices.dated(name, self._at_s)
        price = of_model(model) if dated is None else of_spec(dated)
        return Candidate(-1, OfferingSpec(model=name, endpoint=""), model, nowhere, price)

    def profile(self, priority: str) -> ProfileSpec:
        return self.profiles[priority]

    def floor(self, priority: str, complexity: str | None, quality: str | None) -> int:
        """Return the least quality rank asked for: the higher of what both fields imply."""
        profile = self.profiles[priority]
        asked = TIER_RANK[quality] if quality else 0
        if complexity is None:
            return asked
        implied = TIER_RANK[getattr(profile, f"floor_{complexity}")]
        return max(asked, implied)

    def ordered(self, task: str, priority: str, floor: int) -> list[tuple[float, Candidate]]:
        """Return the offerings that can do `task` at `floor` or better, best static score first.

        Each comes with the weight-normalised score that no measurement changes (quality, cost).
        """
        key = (task, priority, floor)
        found = self._ordered.get(key)
        if found is None:
            found = self._ordered[key] = self._order(task, priority, floor)
        return found

    def by_name(self, task: str) -> list[Candidate]:
        """Return the offerings that can do `task`, by name."""
        found = self._by_name.get(task)
        if found is None:
            able = [c for c in self.candidates if task in c.model.capabilities]
            found = self._by_name[task] = sorted(able, key=lambda c: c.id)
        return found

    def _order(self, task: str, priority: str, floor: int) -> list[tuple[float, Candidate]]:
        able = [c for c in self.candidates if task in c.model.capabilities and c.rank >= floor]
        pairs = [(self.static_score(c, task, priority), c) for c in able]
        return sorted(pairs, key=lambda pair: (-pair[0], pair[1].id))

    def static_score(self, candidate: Candidate, task: str, priority: str) -> float:
        """Return the quality and cost part of the score, 0..1 of the whole."""
        profile = self.profiles[priority]
        quality = 0.8 * candidate.quality + 0.2 * (task in candidate.model.best_for)
        points = profile.quality_weight * quality + profile.cost_weight * candidate.cost_score
        return points / self.weight_total(priority)

    def _dynamic_weights(self, priority: str) -> tuple[float, float, float]:
        p, total = self.profiles[priority], self.weight_total(priority)
        return p.latency_weight / total, p.memory_weight / total, p.success_weight / total

    def weight_total(self, priority: str) -> float:
        p = self.profiles[priority]
        total = (
            p.quality_weight + p.cost_weight + p.latency_weight + p.memory_weight + p.success_weight
        )
        return total or 1.0

    def chain_for(self, model: str, task: str) -> tuple[str, ...]:
        """Return the stand-ins for `model`: its own chain, else the task's, else ()."""
        chain = self._chain_for_model.get(model) or self._chain_for_task.get(task)
        return chain.models if chain else ()

    def has_chain(self, model: str) -> bool:
        """Return True if an admin said who stands in for this very model."""
        return model in self._chain_for_model

    def find_model(self, name: str) -> str | None:
        """Return the catalogue's name for what the caller wrote; `x` also finds `x:latest`."""
        for spelling in (name, f"{name}:latest", name.removesuffix(":latest")):
            if spelling in self.by_model or spelling in self.models:
                return spelling
        return None

    def nearest_model(self, name: str, allowed: frozenset[str] | None = None) -> str | None:
        """Return the name most like `name`, of the models that may be told of."""
        known = [model for model in self.models if allowed is None or model in allowed]
        return next(iter(difflib.get_close_matches(name, known, n=1)), None)

    def price_at(self, model: str, when_s: float) -> PriceSpec | None:
        """Return what a model costs at `when_s` (epoch seconds); None where it is not known."""
        return self._prices.at(model, when_s)


EMPTY_POLICY = Policy(PolicyDocument())

"""Decide which offering answers: filter, score, order. Pure: same input, same output.

The scan runs down the policy's list, which is sorted by the part of the score that no measurement
changes, and stops as soon as no later offering could still enter the best few. That is exact, and
makes a decision among thousands of offerings cost about as much as one among dozens.
"""

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from routing.engine.breaker import BreakerState
from routing.engine.catalog import QUALITY_TIERS
from routing.engine.errors import ModelNotAllowed, NoCandidate, Rejection, UnknownModel
from routing.engine.ledger import Wallet
from routing.engine.memory import Resident, eviction
from routing.engine.policy import Candidate, Policy
from routing.engine.pressure import may_load
from routing.engine.state import FleetState, HostState, OfferingState

Clock = Callable[[], float]  # seconds, monotonic

# How many offerings a decision ranks: the chosen one and what is told as alternatives.
BEST = 6
# An expected answer time of this long halves the latency score.
LATENCY_HALF_MS = 5000.0
DEFAULT_OUTPUT_TOKENS = 512
# The most an answer paid from a budget may have, unless its caller says more.
BUDGETED_OUTPUT_TOKENS = 4096
# A model last used this long ago is half as likely to be asked for as one just used.
RECENT_S = 60.0
# Upper bounds are summed in another order than scores, so they may be short by a few ulps.
ROUNDING = 1e-12

REASONS: dict[str, str] = {
    "capability": "the model cannot do this task type",
    "not_allowed": "the API key or its tenant may not use the model",
    "quality_floor": "the model's quality tier is below what is asked for",
    "context_length": "prompt and answer do not fit the model's context",
    "cost_limit": "the answer could cost more than costLimit",
    "price_unknown": "the model has no known price, and what may be spent is limited",
    "budget_exhausted": "a budget has less left than the answer could cost",
    "endpoint_down": "the endpoint did not answer its last probe",
    "not_offered": "the endpoint does not hold the model now",
    "unhealthy": "reported unfit by model.health_changed",
    "breaker_open": "its circuit breaker is open after failures",
    "memory_fit": "loading the model would not fit the host's free memory",
    "memory_pressure": "the host's memory is too tight to load anything for this priority",
    "memory_unknown": "the host's memory is not known, so nothing new is loaded there",
    "uncoordinated": "loads cannot be coordinated now, so only loaded models are used",
    "crowded": "its queue is full, or longer than the request may wait",
    "excluded": "it has failed this request already",
}


# Structs of msgspec where one is made for every request: they cost a fifth of a dataclass to make.
class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks of its model. Tokens are counts, money is nano-dollars."""

    task: str
    priority: str = "normal"
    floor: int = 0  # least quality rank, 0..3
    prompt_tokens: int = 0
    max_tokens: int | None = None
    cost_limit_nusd: int | None = None
    model: str | None = None  # the caller insists on this one
    exclude: frozenset[str] = frozenset()
    tenant: str = ""  # whose request it is; empty: nobody said
    key: str = ""  # the name of the API key
    tag: str = ""  # what the caller calls the work it is for
    prompt_bound: int = 0  # the most tokens the prompt can be; `prompt_tokens` is the likely count
    prompt_bytes: int = 0  # of its text in UTF-8
    wallet: Wallet | None = None  # None: no budget counts it
    allowed: frozenset[str] | None = None  # models it may use; None: all
    share: float = 1.0  # its tenant's part of a contended endpoint

    @property
    def output_tokens(self) -> int:
        return DEFAULT_OUTPUT_TOKENS if self.max_tokens is None else self.max_tokens


class Scored(msgspec.Struct):
    """A candidate with its score, 0..1."""

    score: float
    candidate: Candidate


class Decision(msgspec.Struct):
    """The outcome: `ranked[0]` is the choice."""

    need: Need
    ranked: list[Scored]
    eligible: int  # how many were scored before the scan could stop
    relaxed: tuple[str, ...] = ()

    @property
    def chosen(self) -> Candidate:
        return self.ranked[0].candidate

    @property
    def reason(self) -> str:
        best = self.ranked[0]
        text = f"score {best.score:.2f}, best of {self.eligible}"
        if self.need.model:
            text += ", asked for by name"
        for what in self.relaxed:
            text += f"; {what} relaxed"
        return text


@dataclass(slots=True)
class Terms:
    """The parts of one candidate's score, each 0..1, for `explain`."""

    quality: float
    cost: float
    latency: float
    memory: float
    success: float
    expected_ms: float
    wait_ms: float
    total: float


@dataclass(slots=True)
class Explained:
    """One row of `explain`: scored, or rejected with a reason."""

    candidate: Candidate
    terms: Terms | None = None
    rejection: Rejection | None = None


def decide(policy: Policy, state: FleetState, need: Need, now: float) -> Decision:
    """Return the decision for `need` at `now` (seconds, monotonic).

    Raises UnknownModel if `need.model` is not in the catalogue, ModelNotAllowed if its caller may
    not use it, NoCandidate if nothing survives even with the quality floor relaxed. Allowed models,
    cost limit and memory fit are never relaxed.
    """
    if need.model is not None:
        return _decide_named(policy, state, need, now)
    decision = _best_or_relaxed(policy, state, need, now)
    if not decision.ranked:
        raise _nobody(policy, state, replace(need, floor=0), policy.candidates, now)
    return decision


def _best_or_relaxed(policy: Policy, state: FleetState, need: Need, now: float) -> Decision:
    decision = _best(policy, state, need, need.floor, now)
    if not decision.ranked and need.floor > 0:
        decision = _best(policy, state, need, 0, now)
        decision.relaxed = ("quality floor",)
    return decision


def _best(policy: Policy, state: FleetState, need: Need, floor: int, now: float) -> Decision:
    live = state.live
    weight_latency, weight_memory, weight_success = policy.dynamic_weights[need.priority]
    least_ms = state.least_ttft_ms + state.least_ms_per_token * likely_tokens(need)
    fastest = LATENCY_HALF_MS / (LATENCY_HALF_MS + least_ms)
    most_dynamic = weight_latency * fastest + weight_memory + weight_success
    best: list[tuple[float, str, Candidate]] = []
    eligible, entry = 0, -1.0
    for static, candidate in policy.ordered(need.task, need.priority, floor):
        if static + most_dynamic + ROUNDING < entry:
            break
        offering = live[candidate.index]
        if rejection(candidate, offering, need, now):
            continue
        eligible += 1
        score = static + weight_success * offering.success_rate
        score += weight_memory * (1.0 if offering.loaded else memory_score(candidate, offering))
        # An upper bound first: most candidates of a long list end here.
        if score + weight_latency * fastest + ROUNDING < entry:
            continue
        score += weight_latency * latency_score(candidate, offering, need, now)
        if score >= entry:
            # The id breaks ties: equal candidates must always rank the same way.
            insort(best, (-score, candidate.id, candidate))
            del best[BEST:]
            entry = -best[-1][0] if len(best) == BEST else -1.0
    return Decision(need, [Scored(-negative, c) for negative, _, c in best], eligible)


def _rank(scored: Scored) -> tuple[float, str]:
    return (-scored.score, scored.candidate.id)


def _decide_named(policy: Policy, state: FleetState, need: Need, now: float) -> Decision:
    name = policy.find_model(need.model or "")
    if name is None:
        nearest = policy.nearest_model(need.model or "", need.allowed)
        raise UnknownModel(need.model or "", nearest)
    if not _allowed(name, need):
        raise ModelNotAllowed(name)
    own = policy.by_model.get(name, [])
    named = _admitted(policy, state, own, need, now)
    if named:
        return Decision(need, named, len(named))
    chain = [policy.by_model.get(model, []) for model in policy.chain_for(name, need.task)]
    stand_ins = [s for offered in chain for s in _admitted(policy, state, offered, need, now)]
    if stand_ins:
        return Decision(need, stand_ins, len(stand_ins), ("named model",))
    raise _nobody(policy, state, need, [*own, *(c for offered in chain for c in offered)], now)


def _admitted(
    policy: Policy,
    state: FleetState,
    candidates: Sequence[Candidate],
    need: Need,
    now: float,
) -> list[Scored]:
    """Score the given offerings regardless of the quality floor: somebody named them."""
    able = [
        Scored(terms(policy, c, state.live[c.index], need, now).total, c)
        for c in candidates
        if _can(c, need) and not rejection(c, state.live[c.index], need, now)
    ]
    return sorted(able, key=_rank)


def _can(candidate: Candidate, need: Need) -> bool:
    # A caller who names a model for chat may use whatever chats; embedding is another protocol.
    capabilities = candidate.model.capabilities
    if need.model is None or need.task == "embedding":
        return need.task in capabilities
    return any(task != "embedding" for task in capabilities)


def _allowed(model: str, need: Need) -> bool:
    return need.allowed is None or model in need.allowed


def rejection(candidate: Candidate, offering: OfferingState, need: Need, now: float) -> str:
    """Return the reason code why this offering cannot take the request, or ''."""
    if need.allowed is not None and candidate.model_name not in need.allowed:
        return "not_allowed"
    if offering.unusable:
        return offering.unusable
    breaker = offering.breaker
    if breaker.state is not BreakerState.CLOSED and not breaker.allows(now):
        return "breaker_open"
    if need.prompt_tokens + (need.max_tokens or 1) > candidate.context_length:
        return "context_length"
    if not offering.loaded and (refused := _memory_refusal(offering, need, now)):
        return refused
    if need.cost_limit_nusd is not None and (refused := _cost_refusal(candidate, need)):
        return refused
    if need.wallet is not None and (refused := _budget_refusal(candidate, need, need.wallet)):
        return refused
    if candidate.id in need.exclude:
        return "excluded"
    return ""


def _memory_refusal(offering: OfferingState, need: Need, now: float) -> str:
    host = offering.host
    if host is None:
        return ""
    if not host.fresh(now):
        return "memory_unknown"
    if not may_load(host.level, need.priority):
        return "memory_pressure"
    if now < host.alone_until:
        return "uncoordinated"
    if offering.load_key == host.loading:
        return ""
    critical = need.priority == "critical"
    return "memory_fit" if displaced(offering, host, now, critical=critical) is None else ""


def displaced(
    offering: OfferingState, host: HostState, now: float, *, critical: bool
) -> tuple[Resident, ...] | None:
    """Return the models that a cold load would push out of memory; None if it does not fit."""
    short_gb = offering.need_gb - (host.room_gb(critical=critical) - host.reserved_gb)
    endpoint = offering.endpoint
    if short_gb <= 0:
        return ()
    if not endpoint.sizes_gb:
        return None
    return eviction(
        endpoint.residents(), short_gb, now=now, min_residency_s=endpoint.min_residency_s
    )


def _cost_refusal(candidate: Candidate, need: Need) -> str:
    bound = bound_nusd(candidate, need)
    if bound is None:
        return "price_unknown"
    return "cost_limit" if bound > (need.cost_limit_nusd or 0) else ""


def _budget_refusal(candidate: Candidate, need: Need, wallet: Wallet) -> str:
    price, model = candidate.price, candidate.model_name
    if price is not None and wallet.easy:
        return ""
    return wallet.refuses(candidate.id, model, bound_nusd(candidate, need))


def output_cap(candidate: Candidate, need: Need) -> int:
    """Return the most tokens an answer is paid for: what the caller says, or else a default."""
    if need.max_tokens is not None:
        return need.max_tokens
    if need.cost_limit_nusd is not None or need.wallet is None:
        return DEFAULT_OUTPUT_TOKENS
    room = candidate.context_length - need.prompt_tokens
    return max(1, min(BUDGETED_OUTPUT_TOKENS, room))


def answer_limit(candidate: Candidate, need: Need) -> int | None:
    """Return the most tokens to ask for: what is paid for, wherever an answer's length costs."""
    if need.max_tokens is not None:
        return need.max_tokens
    price = candidate.price
    if price is None or not price.output_nusd:
        return None
    limited = need.wallet is not None and need.wallet.limits(candidate.model_name)
    return output_cap(candidate, need) if limited or need.cost_limit_nusd is not None else None


def bound_nusd(candidate: Candidate, need: Need, more_prompt: int = 0) -> int | None:
    """Return the most that a call can cost; None where the price is not known.

    `more_prompt` is what is sent beyond the caller's own prompt, in tokens at most.
    """
    price = candidate.price
    if price is None:
        return None
    prompt = max(need.prompt_bound, need.prompt_tokens) + more_prompt
    if prompt:
        prompt += candidate.excess_tokens
    embed = need.task == "embedding"
    return price.bound_nusd(prompt, output_cap(candidate, need), embed=embed)


def cheapest_bound_nusd(policy: Policy, need: Need) -> int:
    """Return the lowest bound among the models able to do the task; 0 if none has a price."""
    able = (c for c in policy.candidates if _can(c, need) and _allowed(c.model_name, need))
    bounds = (bound_nusd(c, need) for c in able)
    return min((bound for bound in bounds if bound is not None), default=0)


def likely_tokens(need: Need) -> int:
    """Return how long an answer to expect: few use all the tokens they were allowed."""
    most = need.max_tokens
    return DEFAULT_OUTPUT_TOKENS if most is None or most > DEFAULT_OUTPUT_TOKENS else most


def expected_ms(
    candidate: Candidate, offering: OfferingState, need: Need, now: float = math.inf
) -> float:
    """Return the expected time to a whole answer, in ms: queue, load if cold, and generation.

    Without a time (`now`), no load that others began is waited for.
    """
    answer_ms = offering.ttft_ms + offering.ms_per_token * likely_tokens(need)
    queued_ms = answer_ms + offering.endpoint.wait_ms
    return queued_ms if offering.loaded else queued_ms + _cold_ms(offering, need, now)


def _cold_ms(offering: OfferingState, need: Need, now: float) -> float:
    """Return what a cold start adds: the host's load under way, its own, and what it undoes."""
    host = offering.host
    if host is None or now == math.inf:
        return offering.load_ms
    wait_ms = max(host.ready_at - now, 0.0) * 1000
    if offering.load_key == host.loading:
        return wait_ms
    cold_ms = wait_ms + offering.load_ms
    victims = displaced(offering, host, now, critical=need.priority == "critical")
    return cold_ms + sum(_return_ms(victim, now) for victim in victims) if victims else cold_ms


def _return_ms(victim: Resident, now: float) -> float:
    """Return what bringing a displaced model back costs: less, the longer nobody used it."""
    return victim.load_ms / (1 + max(now - victim.used_at, 0.0) / RECENT_S)


def latency_score(
    candidate: Candidate, offering: OfferingState, need: Need, now: float = math.inf
) -> float:
    return LATENCY_HALF_MS / (LATENCY_HALF_MS + expected_ms(candidate, offering, need, now))


def memory_score(candidate: Candidate, offering: OfferingState) -> float:
    """Return 1 where nothing must be loaded, else the share of the host left free afterwards."""
    host = offering.host
    if offering.loaded or host is None:
        return 1.0
    if host.total_gb <= 0:
        return 0.0
    left = (host.available_gb - host.reserved_gb - offering.need_gb) / host.total_gb
    return min(1.0, max(0.0, left))


def terms(
    policy: Policy, candidate: Candidate, offering: OfferingState, need: Need, now: float
) -> Terms:
    """Return every part of one candidate's score."""
    weight_latency, weight_memory, weight_success = policy.dynamic_weights[need.priority]
    latency = latency_score(candidate, offering, need, now)
    memory = memory_score(candidate, offering)
    success = offering.success_rate
    dynamic = weight_latency * latency + weight_memory * memory + weight_success * success
    return Terms(
        quality=candidate.quality,
        cost=candidate.cost_score,
        latency=latency,
        memory=memory,
        success=success,
        expected_ms=expected_ms(candidate, offering, need, now),
        wait_ms=offering.endpoint.wait_ms,
        total=policy.static_score(candidate, need.task, need.priority) + dynamic,
    )


def explain(policy: Policy, state: FleetState, need: Need, now: float) -> list[Explained]:
    """Return every offering with its score or its rejection, best first, then by name."""
    rows = [_explain_one(policy, state, c, need, now) for c in policy.candidates]
    return sorted(rows, key=lambda r: (-(r.terms.total if r.terms else -1.0), r.candidate.id))


def _explain_one(
    policy: Policy, state: FleetState, candidate: Candidate, need: Need, now: float
) -> Explained:
    offering = state.live[candidate.index]
    if not _can(candidate, need):
        reason = "capability"
    elif need.model is None and candidate.rank < need.floor:
        reason = "quality_floor"
    else:
        reason = rejection(candidate, offering, need, now)
    if not reason:
        return Explained(candidate, terms=terms(policy, candidate, offering, need, now))
    detail = _detail(reason, candidate, offering, need)
    refused = Rejection(candidate.model_name, candidate.endpoint_name, reason, detail)
    return Explained(candidate, rejection=refused)


def _detail(reason: str, candidate: Candidate, offering: OfferingState, need: Need) -> str:
    if reason == "memory_fit" and offering.host is not None:
        return _memory_detail(offering, offering.host, critical=need.priority == "critical")
    if reason == "context_length":
        asked = need.prompt_tokens + (need.max_tokens or 1)
        return f"about {asked} tokens asked, context holds {candidate.context_length}"
    if reason == "quality_floor":
        return f"{candidate.model.quality_tier} is below {QUALITY_TIERS[need.floor]}"
    return REASONS[reason]


def _memory_detail(offering: OfferingState, host: HostState, *, critical: bool) -> str:
    room_gb = host.room_gb(critical=critical) - host.reserved_gb
    said = f"needs {offering.need_gb:.1f} GB, {max(room_gb, 0.0):.1f} GB may be used"
    for key, load in sorted(host.loads.items()):
        what = key.partition("/")[2].partition("#")[0]
        said += f", {load.need_gb:.1f} GB reserved for {what}"
    return said


def _nobody(
    policy: Policy,
    state: FleetState,
    need: Need,
    considered: Sequence[Candidate],
    now: float,
) -> NoCandidate:
    once = sorted(dict.fromkeys(considered), key=lambda c: c.id)
    rows = [_explain_one(policy, state, c, need, now) for c in once]
    refused = tuple(row.rejection for row in rows if row.rejection)
    waits = [
        max(state.live[row.candidate.index].breaker.open_until - now, 0.0)
        for row in rows
        if row.rejection and row.rejection.reason == "breaker_open"
    ]
    return NoCandidate(refused, retry_after_s=min(waits, default=None))


def alternatives(policy: Policy, decision: Decision) -> list[str]:
    """Return the names of the models that would stand in, in order, without the chosen one."""
    chosen = decision.ranked[0].candidate.model_name
    names = dict.fromkeys(
        model
        for model in policy.chain_for(chosen, decision.need.task)
        if model in policy.by_model and _allowed(model, decision.need)
    )
    for scored in decision.ranked:
        names[scored.candidate.model_name] = None
    names.pop(chosen, None)
    return list(names)[:BEST]


def attempts(
    policy: Policy, state: FleetState, decision: Decision, clock: Clock
) -> Iterator[Candidate]:
    """Yield whom to ask: the choice, its model elsewhere, its chain, the rest by rank, the others.

    Lazy: state is read when the next one is asked for, so a breaker that opened meanwhile counts.
    """
    # Between two attempts a new policy may be bound: the decision's indexes belong to this one.
    state = state.frozen()
    tried: set[str] = set()
    need = decision.need
    for candidate in _in_order(policy, state, decision, clock):
        if candidate.id in tried:
            continue
        if rejection(candidate, state.live[candidate.index], need, clock()):
            continue
        tried.add(candidate.id)
        yield candidate
    if need.model is None:
        yield from _whoever_is_left(policy, state, need, tried, clock)


def _in_order(
    policy: Policy, state: FleetState, decision: Decision, clock: Clock
) -> Iterator[Candidate]:
    """Yield the ranked and the named. An admin named a chain, so no quality floor holds for it."""
    chosen = decision.chosen
    yield chosen
    for model in (chosen.model_name, *policy.chain_for(chosen.model_name, decision.need.task)):
        offered = policy.by_model.get(model, [])
        for scored in _admitted(policy, state, offered, decision.need, clock()):
            yield scored.candidate
    for scored in decision.ranked[1:]:
        yield scored.candidate


def _whoever_is_left(
    policy: Policy, state: FleetState, need: Need, tried: set[str], clock: Clock
) -> Iterator[Candidate]:
    while True:
        decision = _best_or_relaxed(policy, state, replace(need, exclude=frozenset(tried)), clock())
        if not decision.ranked:
            return
        tried.add(decision.chosen.id)
        yield decision.chosen

"""Decide which offering answers: filter, score, order. Pure: same input, same output.

The scan runs down the policy's list, which is sorted by the part of the score that no measurement
changes, and stops as soon as no later offering could still enter the best few. That is exact, and
makes a decision among thousands of offerings cost about as much as one among dozens.
"""

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from routing.engine.errors import ModelNotAllowed, NoCandidate, Rejection, UnknownModel
from routing.engine.need import Need, is_able, is_allowed, likely_tokens
from routing.engine.policy import Candidate, Policy
from routing.engine.refusal import detail, rejection
from routing.engine.scoring import LATENCY_HALF_MS, Terms, latency_score, memory_score, terms
from routing.engine.state import FleetState

Clock = Callable[[], float]  # seconds, monotonic

# How many offerings a decision ranks: the chosen one and what is told as alternatives.
BEST = 6
# Upper bounds are summed in another order than scores, so they may be short by a few ulps.
ROUNDING = 1e-12


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
    if not is_allowed(name, need):
        raise ModelNotAllowed(name)
    own = policy.by_model.get(name, [])
    named = _admitted(policy, state, own, need, now)
    if named:
        return Decision(need, named, len(named))
    refused = _nobody(policy, state, need, own, now)
    if refused.only_because("price_unknown") and not policy.has_chain(name):
        # No failure that passes: the caller is told, rather than answered by another for ever.
        raise refused
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
        if is_able(c, need) and not rejection(c, state.live[c.index], need, now)
    ]
    return sorted(able, key=_rank)


def explain(policy: Policy, state: FleetState, need: Need, now: float) -> list[Explained]:
    """Return every offering with its score or its rejection, best first, then by name."""
    rows = [_explain_one(policy, state, c, need, now) for c in policy.candidates]
    return sorted(rows, key=lambda r: (-(r.terms.total if r.terms else -1.0), r.candidate.id))


def _explain_one(
    policy: Policy, state: FleetState, candidate: Candidate, need: Need, now: float
) -> Explained:
    offering = state.live[candidate.index]
    if not is_able(candidate, need):
        reason = "capability"
    elif need.model is None and candidate.rank < need.floor:
        reason = "quality_floor"
    else:
        reason = rejection(candidate, offering, need, now)
    if not reason:
        return Explained(candidate, terms=terms(policy, candidate, offering, need, now))
    said = detail(reason, candidate, offering, need)
    refused = Rejection(candidate.model_name, candidate.endpoint_name, reason, said)
    return Explained(candidate, rejection=refused)


def _nobody(
    policy: Policy,
    state: FleetState,
    need: Need,
    considered: Sequence[Candidate],
    now: float,
) -> NoCandidate:
    # What a caller may not use is none of its business, unless nothing else can do what it asks.
    usable = any(is_able(c, need) and is_allowed(c.model_name, need) for c in considered)
    told = [c for c in considered if not usable or is_allowed(c.model_name, need)]
    # Who was named comes first.
    once = sorted(dict.fromkeys(told), key=lambda c: (c.model_name != need.model, c.id))
    rows = [_explain_one(policy, state, c, need, now) for c in once]
    refused = tuple(row.rejection for row in rows if row.rejection)
    waits = [
        max(state.live[row.candidate.index].breaker.open_until - now, 0.0)
        for row in rows
        if row.rejection and row.rejection.reason == "breaker_open"
    ]
    return NoCandidate(
        refused,
        retry_after_s=min(waits, default=None),
        cost_limited=need.cost_limit_nusd is not None,
    )


def alternatives(policy: Policy, decision: Decision) -> list[str]:
    """Return the names of the models that would stand in, in order, without the chosen one."""
    chosen = decision.ranked[0].candidate.model_name
    names = dict.fromkeys(
        model
        for model in policy.chain_for(chosen, decision.need.task)
        if model in policy.by_model and is_allowed(model, decision.need)
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
        others = replace(need, exclude=need.exclude | tried)
        decision = _best_or_relaxed(policy, state, others, clock())
        if not decision.ranked:
            return
        tried.add(decision.chosen.id)
        yield decision.chosen

"""The scan that stops early against one that looks at everything, over random fleets."""

from decimal import Decimal
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.engine.bounds import bound_nusd
from routing.engine.catalog import (
    PRIORITIES,
    QUALITY_TIERS,
    SPEEDS,
    TASK_TYPES,
    EndpointSpec,
    ModelSpec,
    ProfileSpec,
)
from routing.engine.decide import BEST, Decision, Scored, decide
from routing.engine.errors import NoCandidate
from routing.engine.need import Need
from routing.engine.refusal import rejection
from routing.engine.scoring import terms
from routing.engine.state import OfferingState
from tests.cast import Fleet, document

# Scores are sums of the same terms in another order: they differ by rounding alone.
CLOSE = 1e-9


def some_model(name: str, chance: Random) -> ModelSpec:
    price = chance.choice((None, Decimal(0), Decimal(chance.randrange(2000)) / 1000))
    return ModelSpec(
        name=name,
        capabilities=tuple(chance.sample(TASK_TYPES, chance.randint(1, 5))),
        quality_tier=chance.choice(QUALITY_TIERS),
        speed=chance.choice(SPEEDS),
        ram_required_gb=chance.choice((0.0, 1.0, 4.0, 9.5)),
        context_length=chance.choice((100, 4096)),
        cost_per_1k_input_usd=price,
        cost_per_1k_output_usd=None if price is None else price * 2,
        best_for=tuple(chance.sample(TASK_TYPES, chance.randint(0, 1))),
    )


def some_profile(chance: Random) -> ProfileSpec:
    names = ("quality", "cost", "latency", "memory", "success")
    weights = {f"{name}_weight": chance.choice((0.0, chance.uniform(0, 100))) for name in names}
    return ProfileSpec(priority=chance.choice(PRIORITIES), **weights)  # type: ignore[arg-type]


def some_endpoint(name: str, chance: Random) -> EndpointSpec:
    host = chance.choice(("", "local", "far"))
    return EndpointSpec(name=name, provider="ollama", base_url="http://x", host=host)


def fleet_from(seed: int) -> Fleet:
    """Return a fleet in which everything that may differ between offerings does."""
    chance = Random(seed)  # noqa: S311 - repeatable, no secret
    catalogue = [some_model(f"m{i}", chance) for i in range(chance.randint(1, 12))]
    places = [some_endpoint(f"e{i}", chance) for i in range(chance.randint(1, 3))]
    profiles = [some_profile(chance) for _ in range(chance.randint(0, 1))]
    fleet = Fleet.of(document(catalogue, places, profiles=profiles))
    fleet.measure("local", available_gb=chance.uniform(0, 10), total_gb=10)
    names = [m.name for m in catalogue]
    loaded = frozenset(chance.sample(names, chance.randint(0, len(names))))
    fleet.probe("e0", up=chance.choice((True, None, False)), loaded=loaded)
    for live in fleet.state.live:
        disturb(fleet, live, chance)
    return fleet


def disturb(fleet: Fleet, live: OfferingState, chance: Random) -> None:
    live.in_flight = chance.choice((0, 0, 1, 7))
    live.success_rate = chance.choice((1.0, chance.random()))
    if chance.random() < 0.5:
        fleet.state.observe(
            live,
            duration_ms=chance.uniform(0, 100_000),
            output_tokens=chance.randint(0, 500),
            ttft_ms=chance.choice((None, chance.uniform(0, 5000))),
        )
    if chance.random() < 0.1:
        fleet.trip(live.id)


# Drawing every part of a fleet from hypothesis costs a hundred times as much.
fleets = st.integers(0, 2**32).map(fleet_from)
needs = st.builds(
    Need,
    task=st.sampled_from(TASK_TYPES),
    priority=st.sampled_from(PRIORITIES),
    floor=st.integers(0, 3),
    prompt_tokens=st.sampled_from((0, 50, 5000)),
    max_tokens=st.none() | st.integers(1, 100),
    cost_limit_nusd=st.none() | st.integers(0, 10**8),
)


def everything(fleet: Fleet, need: Need, floor: int) -> list[Scored]:
    """Return every offering that may answer, best first: what `decide` claims to know."""
    able = [
        Scored(terms(fleet.policy, c, fleet.state.live[c.index], need, fleet.now).total, c)
        for c in fleet.policy.candidates
        if need.task in c.model.capabilities
        and c.rank >= floor
        and not rejection(c, fleet.state.live[c.index], need, fleet.now)
    ]
    return sorted(able, key=lambda s: (-s.score, s.candidate.id))


def decided(fleet: Fleet, need: Need) -> Decision | None:
    try:
        return decide(fleet.policy, fleet.state, need, fleet.now)
    except NoCandidate:
        return None


@settings(max_examples=400, deadline=None)
@given(fleets, needs)
def test_the_early_stop_loses_nothing(fleet: Fleet, need: Need) -> None:
    expected = everything(fleet, need, need.floor) or everything(fleet, need, 0)
    decision = decided(fleet, need)
    if decision is None:
        assert expected == []
        return
    assert len(decision.ranked) == min(BEST, len(expected))
    true_scores = {s.candidate.id: s.score for s in expected}
    for ours, best in zip(decision.ranked, expected, strict=False):
        assert abs(ours.score - best.score) < CLOSE
        assert abs(true_scores[ours.candidate.id] - ours.score) < CLOSE


@settings(max_examples=200, deadline=None)
@given(fleets, needs)
def test_a_decision_respects_what_is_never_relaxed(fleet: Fleet, need: Need) -> None:
    decision = decided(fleet, need)
    for scored in decision.ranked if decision else ():
        candidate, live = scored.candidate, fleet.state.live[scored.candidate.index]
        assert need.task in candidate.model.capabilities
        assert live.breaker.allows(fleet.now)
        if live.host is not None and not live.loaded:
            assert live.host.known
            assert candidate.ram_gb <= live.host.room_gb(critical=need.priority == "critical")
        if need.cost_limit_nusd is not None:
            bound = bound_nusd(candidate, need)
            assert bound is not None
            assert bound <= need.cost_limit_nusd


@settings(max_examples=200, deadline=None)
@given(fleets, needs)
def test_scores_lie_between_nothing_and_one_and_fall(fleet: Fleet, need: Need) -> None:
    decision = decided(fleet, need)
    scores = [s.score for s in decision.ranked] if decision else []
    assert all(-CLOSE <= score <= 1 + CLOSE for score in scores)
    assert scores == sorted(scores, reverse=True)
    assert decided(fleet, need) == decision

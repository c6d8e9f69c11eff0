"""Whom a request asks, and in which order."""

import itertools
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.engine.catalog import ChainSpec
from routing.engine.decide import attempts
from routing.engine.need import Need
from routing.engine.policy import Policy
from tests.cast import CLOUD, CODER, HERE, PLAIN, SAGE, TINY, Fleet, document
from tests.engine.test_exactness import decided, fleets, needs

CHAIN = ChainSpec(name="after-sage", models=("tiny", "sage", "nobody"), for_model="sage")


def stage_of(*models: object, chain: bool = True) -> Fleet:
    chains = (CHAIN,) if chain else ()
    stage = Fleet.of(document(models or (TINY, PLAIN, CODER, SAGE), (CLOUD, HERE), chains=chains))  # type: ignore[arg-type]
    stage.measure("local", available_gb=32, total_gb=64)
    return stage


def asked(stage: Fleet, **need: object) -> list[str]:
    decision = stage.decide(**need)  # type: ignore[arg-type]
    return [c.id for c in attempts(stage.policy, stage.state, decision, stage.clock)]


def test_the_choice_then_its_model_elsewhere_then_its_chain_then_the_others() -> None:
    order = asked(stage_of(), priority="critical", floor=2)
    assert order[:2] == ["sage@cloud", "sage@here"]
    assert order[2:4] == ["tiny@cloud", "tiny@here"]
    assert [name.partition("@")[0] for name in order[4:]] == ["coder", "coder", "plain", "plain"]


def test_without_a_chain_those_below_the_floor_come_last() -> None:
    order = asked(stage_of(chain=False), priority="critical", floor=2)
    models = [model for model, _ in itertools.groupby(order, lambda i: i.partition("@")[0])]
    assert set(models[:2]) == {"sage", "coder"}
    assert set(models[-2:]) == {"plain", "tiny"}


def test_a_named_model_is_followed_by_its_chain_and_by_nobody_else() -> None:
    order = asked(stage_of(), model="sage")
    assert order == ["sage@cloud", "sage@here", "tiny@cloud", "tiny@here"]


def test_a_breaker_that_opens_meanwhile_is_respected() -> None:
    stage = stage_of()
    order = attempts(stage.policy, stage.state, stage.decide(model="sage"), stage.clock)
    assert next(order).id == "sage@cloud"
    stage.trip("sage@here")
    assert [c.id for c in order] == ["tiny@cloud", "tiny@here"]


def test_one_that_recovers_meanwhile_is_asked() -> None:
    stage = stage_of(TINY)
    stage.probe("here", up=False)
    order = attempts(stage.policy, stage.state, stage.decide(), stage.clock)
    assert next(order).id == "tiny@cloud"
    stage.probe("here", up=True)
    assert [c.id for c in order] == ["tiny@here"]


def test_a_new_policy_does_not_disturb_a_request_under_way() -> None:
    stage = stage_of(chain=False)
    decision = stage.decide(priority="critical", floor=3)
    order = attempts(stage.policy, stage.state, decision, stage.clock)
    first = next(order)
    stage.trip("tiny@cloud")
    # Fewer offerings, in other places of the list.
    stage.state.bind(Policy(document((CODER, SAGE))))
    rest = [c.id for c in order]
    assert first.id == "sage@cloud"
    assert set(rest) == {
        "sage@here",
        "coder@cloud",
        "coder@here",
        "plain@cloud",
        "plain@here",
        "tiny@here",
    }


@settings(max_examples=200, deadline=None)
@given(fleets, needs, st.integers(0, 2**32))
def test_nobody_is_asked_twice_and_nobody_is_left_out(fleet: Fleet, need: Need, seed: int) -> None:
    decision = decided(fleet, need)
    if decision is None:
        return
    order = attempts(fleet.policy, fleet.state, decision, fleet.clock)
    names, chance = [], Random(seed)  # noqa: S311 - repeatable, no secret
    for candidate in order:
        names.append(candidate.id)
        if chance.random() < 0.25:
            fleet.trip(candidate.id)
    assert names[0] == decision.chosen.id
    assert len(names) == len(set(names))
    able = {c.id for c in fleet.policy.candidates if need.task in c.model.capabilities}
    assert set(names) <= able
    assert {s.candidate.id for s in decision.ranked} <= set(names)

"""What a decision chooses, relaxes and refuses."""

from typing import Any

import pytest

from routing.engine.catalog import ChainSpec, ModelSpec, OfferingSpec
from routing.engine.decide import BEST, alternatives, decide, explain
from routing.engine.errors import NoCandidate, UnknownModel
from routing.engine.need import Need
from routing.engine.refusal import REASONS
from tests.cast import (
    CLOUD,
    CODER,
    EMBED,
    EVERYBODY,
    HERE,
    PLAIN,
    SAGE,
    TINY,
    Fleet,
    document,
    model,
    priced,
)

CHAIN = ChainSpec(name="after-sage", models=("coder", "tiny"), for_model="sage")


def fleet(*models: ModelSpec, **more: Any) -> Fleet:
    return Fleet.of(document(models or EVERYBODY, **more))


def refusals(stage: Fleet, task: str = "completion", **need: Any) -> dict[str, str]:
    """Return the reason of every offering that a request was refused for."""
    with pytest.raises(NoCandidate) as caught:
        stage.decide(task, **need)
    return {f"{r.model}@{r.endpoint}": r.reason for r in caught.value.rejections}


def test_only_a_model_that_can_do_the_task_is_chosen() -> None:
    assert fleet().decide("embedding").chosen.model_name == "embed"
    assert fleet().decide("code").chosen.model_name == "coder"


def test_the_best_for_a_task_beats_its_equal() -> None:
    rival = model("acoder", "high", capabilities=CODER.capabilities)
    assert fleet(rival, CODER).decide("code").chosen.model_name == "coder"


def test_a_free_model_beats_a_dear_one_for_thrift() -> None:
    dear = priced(model("a-dear", "good"), "0.05")
    assert fleet(dear, PLAIN).decide(priority="low").chosen.model_name == "plain"


def test_quality_counts_for_critical_requests() -> None:
    assert fleet(TINY, SAGE).decide(priority="critical").chosen.model_name == "sage"


def test_the_floor_keeps_lesser_models_out() -> None:
    decision = fleet(TINY, SAGE).decide(priority="low", floor=3)
    assert [s.candidate.model_name for s in decision.ranked] == ["sage"]
    assert decision.relaxed == ()


def test_the_floor_is_relaxed_when_nobody_reaches_it() -> None:
    decision = fleet(TINY).decide(floor=3)
    assert decision.chosen.model_name == "tiny"
    assert decision.relaxed == ("quality floor",)
    assert "quality floor relaxed" in decision.reason


def test_equal_candidates_rank_by_name() -> None:
    twins = [model(name) for name in ("c", "a", "b")]
    assert [s.candidate.model_name for s in fleet(*twins).decide().ranked] == ["a", "b", "c"]


def test_no_more_than_the_best_few_are_ranked() -> None:
    stage = fleet(*(model(f"m{i:02d}") for i in range(20)))
    assert len(stage.decide().ranked) == BEST


def test_cost_limit_is_never_relaxed() -> None:
    stage = fleet(priced(PLAIN, "1"))
    # 1 prompt token and 10 of the answer at a dollar per thousand: 11,000,000 nano-dollars.
    stage.decide(prompt_tokens=1, max_tokens=10, cost_limit_nusd=11_000_000)
    told = refusals(stage, prompt_tokens=1, max_tokens=10, cost_limit_nusd=10_999_999, floor=3)
    assert told == {"plain@cloud": "cost_limit"}


def test_an_unknown_price_is_not_free() -> None:
    stage = fleet(priced(PLAIN, None))
    assert stage.decide().chosen.model_name == "plain"
    assert refusals(stage, cost_limit_nusd=10**15) == {"plain@cloud": "price_unknown"}


def test_a_prompt_must_fit_the_context_with_its_answer() -> None:
    stage = fleet(PLAIN)
    stage.decide(prompt_tokens=8000, max_tokens=192)
    assert refusals(stage, prompt_tokens=8000, max_tokens=193) == {"plain@cloud": "context_length"}


def test_a_pinned_context_is_the_one_that_counts() -> None:
    pinned = OfferingSpec(model="plain", endpoint="cloud", num_ctx=100)
    stage = fleet(PLAIN, offerings=(pinned,))
    assert refusals(stage, prompt_tokens=100, max_tokens=1) == {"plain@cloud": "context_length"}


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"up": False}, "endpoint_down"),
        ({"up": True, "available": frozenset({"other"})}, "not_offered"),
    ],
)
def test_what_the_prober_saw_counts(seen: dict[str, Any], reason: str) -> None:
    stage = fleet(PLAIN)
    stage.probe("cloud", **seen)
    assert refusals(stage) == {"plain@cloud": reason}


def test_an_unhealthy_model_is_left_out() -> None:
    stage = fleet(PLAIN)
    stage.state.model_health("plain", "", healthy=False)
    assert refusals(stage) == {"plain@cloud": "unhealthy"}


def test_an_open_breaker_names_when_to_come_back() -> None:
    stage = fleet(PLAIN, EMBED)
    stage.trip("plain@cloud")
    stage.now += 5
    with pytest.raises(NoCandidate) as caught:
        stage.decide()
    assert caught.value.rejections[1].reason == "breaker_open"
    assert caught.value.retry_after_s == 10.0


def test_the_breaker_of_another_task_says_nothing_about_when() -> None:
    stage = fleet(PLAIN, EMBED)
    stage.trip("embed@cloud")
    stage.probe("cloud", up=False)
    with pytest.raises(NoCandidate) as caught:
        stage.decide()
    assert caught.value.retry_after_s is None


class TestMemory:
    """A host of 10 GB: one tenth is the buffer, a fiftieth for critical requests."""

    LARGE = model("large", ram_required_gb=8)

    def stage(self, available_gb: float | None) -> Fleet:
        stage = fleet(self.LARGE, endpoints=(HERE,))
        if available_gb is not None:
            stage.measure("local", available_gb=available_gb, total_gb=10)
        return stage

    def test_a_cold_model_must_fit_beside_the_buffer(self) -> None:
        assert self.stage(9.0).decide().chosen.model_name == "large"
        assert refusals(self.stage(8.99), floor=3) == {"large@here": "memory_fit"}

    def test_a_critical_request_may_use_the_buffer(self) -> None:
        self.stage(8.21).decide(priority="critical")
        told = refusals(self.stage(8.19), priority="critical")
        assert told == {"large@here": "memory_fit"}

    def test_a_loaded_model_needs_no_new_memory(self) -> None:
        stage = self.stage(0.1)
        stage.probe("here", up=True, loaded=frozenset({"large:latest"}))
        assert stage.decide().chosen.model_name == "large"

    def test_nothing_is_loaded_into_unknown_memory(self) -> None:
        assert refusals(self.stage(None)) == {"large@here": "memory_unknown"}

    def test_a_refusal_says_what_was_needed_and_what_was_there(self) -> None:
        with pytest.raises(NoCandidate) as caught:
            self.stage(2.0).decide()
        assert caught.value.rejections[0].detail == "needs 8.0 GB, 1.0 GB may be used"


def test_reasons_below_a_relaxed_floor_are_the_real_ones() -> None:
    stage = fleet(priced(TINY, "1"), priced(SAGE, "1"))
    told = refusals(stage, floor=3, cost_limit_nusd=0)
    assert set(told.values()) == {"cost_limit"}


class TestNamed:
    def test_a_named_model_is_taken_whatever_its_quality(self) -> None:
        assert fleet().decide(model="tiny", floor=3).chosen.model_name == "tiny"

    @pytest.mark.parametrize("spelling", ["tiny", "tiny:latest"])
    def test_latest_may_be_left_out(self, spelling: str) -> None:
        assert fleet().decide(model=spelling).chosen.model_name == "tiny"

    def test_a_name_with_latest_answers_to_the_bare_one(self) -> None:
        assert fleet(model("x:latest")).decide(model="x").chosen.model_name == "x:latest"

    def test_a_name_nobody_knows_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(UnknownModel, match="Did you mean 'coder'") as caught:
            fleet().decide(model="codr")
        assert caught.value.nearest == "coder"

    def test_its_chain_stands_in_while_it_is_down(self) -> None:
        stage = fleet(chains=(CHAIN,))
        stage.trip("sage@cloud")
        decision = stage.decide(model="sage")
        assert [s.candidate.model_name for s in decision.ranked] == ["coder", "tiny"]
        assert decision.relaxed == ("named model",)

    def test_nobody_else_stands_in(self) -> None:
        stage = fleet(chains=(CHAIN,))
        for name in ("sage", "coder", "tiny"):
            stage.trip(f"{name}@cloud")
        told = refusals(stage, model="sage")
        assert told == dict.fromkeys(("sage@cloud", "coder@cloud", "tiny@cloud"), "breaker_open")

    def test_a_model_for_embeddings_does_not_chat(self) -> None:
        assert refusals(fleet(), model="embed") == {"embed@cloud": "capability"}

    def test_a_model_that_nobody_offers_has_no_candidate(self) -> None:
        assert refusals(fleet(PLAIN, offerings=()), model="plain") == {}


class TestAlternatives:
    def test_the_chain_comes_first_and_the_chosen_one_never(self) -> None:
        stage = fleet(TINY, PLAIN, CODER, SAGE, chains=(CHAIN,))
        decision = stage.decide(priority="critical", floor=3)
        assert decision.chosen.model_name == "sage"
        assert alternatives(stage.policy, decision) == ["coder", "tiny"]

    def test_models_that_nobody_offers_are_not_told(self) -> None:
        stage = fleet(
            SAGE, TINY, offerings=(OfferingSpec(model="sage", endpoint="cloud"),), chains=(CHAIN,)
        )
        assert alternatives(stage.policy, stage.decide()) == []


class TestExplain:
    def test_every_offering_is_there_with_a_score_or_a_known_reason(self) -> None:
        stage = fleet(TINY, PLAIN, CODER, SAGE, EMBED, endpoints=(CLOUD, HERE))
        stage.trip("plain@cloud")
        rows = explain(stage.policy, stage.state, Need(task="code", floor=1), stage.now)
        assert len(rows) == 10
        assert all((row.terms is None) != (row.rejection is None) for row in rows)
        assert {row.rejection.reason for row in rows if row.rejection} <= REASONS.keys()

    def test_it_begins_with_the_choice(self) -> None:
        stage = fleet()
        need = Need(task="completion")
        rows = explain(stage.policy, stage.state, need, stage.now)
        assert rows[0].candidate is decide(stage.policy, stage.state, need, stage.now).chosen

    def test_parts_of_a_score_make_its_total(self) -> None:
        stage = fleet(PLAIN)
        row = explain(stage.policy, stage.state, Need(task="completion"), stage.now)[0]
        profile = stage.policy.profiles["normal"]
        assert row.terms is not None
        parts = (
            profile.quality_weight * 0.8 * row.terms.quality
            + profile.cost_weight * row.terms.cost
            + profile.latency_weight * row.terms.latency
            + profile.memory_weight * row.terms.memory
            + profile.success_weight * row.terms.success
        )
        assert row.terms.total == pytest.approx(parts / stage.policy.weight_total("normal"))

    def test_the_same_question_has_the_same_answer(self) -> None:
        stage = fleet(endpoints=(CLOUD, HERE))
        decisions = [stage.decide(priority="high") for _ in range(5)]
        assert all(d == decisions[0] for d in decisions)

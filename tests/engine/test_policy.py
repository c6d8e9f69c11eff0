"""What compiling a policy document makes of it."""

from decimal import Decimal

import pytest
from msgspec.structs import replace

from routing.engine.catalog import DEFAULT_PROFILES, ChainSpec, OfferingSpec
from routing.engine.money import to_nusd
from routing.engine.policy import EMPTY_POLICY, Policy
from tests.cast import CLOUD, CODER, EMBED, HERE, PLAIN, SAGE, TINY, document, model, priced


def test_what_is_switched_off_is_not_there() -> None:
    off = replace(PLAIN, enabled=False)
    assert Policy(document((off, TINY))).by_model.keys() == {"tiny"}
    assert Policy(document((PLAIN,), (replace(CLOUD, enabled=False),))).candidates == []
    offering = OfferingSpec(model="plain", endpoint="cloud", enabled=False)
    assert Policy(document((PLAIN,), offerings=(offering,))).candidates == []


def test_an_offering_of_something_unknown_is_left_out() -> None:
    lost = (
        OfferingSpec(model="plain", endpoint="gone"),
        OfferingSpec(model="gone", endpoint="cloud"),
    )
    assert Policy(document((PLAIN,), offerings=lost)).candidates == []


def test_an_offering_made_twice_counts_once() -> None:
    twice = tuple(OfferingSpec(model="plain", endpoint="cloud", num_ctx=n) for n in (1, 2))
    policy = Policy(document((PLAIN,), offerings=twice))
    assert [(c.id, c.context_length) for c in policy.candidates] == [("plain@cloud", 2)]


def test_the_list_for_a_task_holds_the_able_best_static_score_first() -> None:
    policy = Policy(document((TINY, CODER, SAGE, EMBED), (CLOUD, HERE)))
    ordered = policy.ordered("completion", "critical", 1)
    assert [c.id for _, c in ordered] == ["sage@cloud", "sage@here", "coder@cloud", "coder@here"]
    assert ordered is policy.ordered("completion", "critical", 1)


@pytest.mark.parametrize(
    ("complexity", "quality", "rank"),
    [
        (None, None, 0),
        ("simple", None, 0),
        ("moderate", None, 1),
        ("complex", None, 2),
        (None, "exceptional", 3),
        ("complex", "basic", 2),
        ("simple", "high", 2),
    ],
)
def test_the_floor_is_the_higher_of_what_both_fields_ask(
    complexity: str | None, quality: str | None, rank: int
) -> None:
    assert EMPTY_POLICY.floor("normal", complexity, quality) == rank


def test_a_profile_of_the_document_replaces_the_default() -> None:
    thrifty = replace(DEFAULT_PROFILES[1], cost_weight=50, floor_complex="basic")
    policy = Policy(document(profiles=(thrifty,)))
    assert policy.profiles["normal"].cost_weight == 50
    assert policy.floor("normal", "complex", None) == 0
    assert policy.profiles["low"] == DEFAULT_PROFILES[0]


def test_a_profile_without_any_weight_divides_by_nothing() -> None:
    names = ("quality", "cost", "latency", "memory", "success")
    idle = replace(DEFAULT_PROFILES[1], **{f"{name}_weight": 0 for name in names})
    policy = Policy(document((PLAIN,), profiles=(idle,)))
    assert policy.ordered("completion", "normal", 0)[0][0] == 0.0


def test_a_models_own_chain_goes_before_its_tasks() -> None:
    own = ChainSpec(name="own", models=("tiny",), for_model="sage")
    task = ChainSpec(name="task", models=("plain",), for_task="code")
    off = ChainSpec(name="off", models=("sage",), for_model="coder", enabled=False)
    policy = Policy(document(chains=(own, task, off)))
    assert policy.chain_for("sage", "code") == ("tiny",)
    assert policy.chain_for("coder", "code") == ("plain",)
    assert policy.chain_for("coder", "completion") == ()


class TestCost:
    def test_dollars_become_nano_dollars(self) -> None:
        assert to_nusd(Decimal("0.000000001")) == 1
        assert to_nusd(Decimal("12.5")) == 12_500_000_000
        assert to_nusd(None) is None

    def test_a_bound_is_rounded_up(self) -> None:
        candidate = Policy(document((priced(PLAIN, "0.000000001"),))).candidates[0]
        assert candidate.cost_bound_nusd(1, 0) == 1
        assert candidate.cost_bound_nusd(1000, 0) == 1
        assert candidate.cost_bound_nusd(1000, 1) == 2
        assert candidate.cost_bound_nusd(0, 0) == 0

    def test_half_a_price_is_no_price(self) -> None:
        half = model("half", cost_per_1k_output_usd=None)
        candidate = Policy(document((half,))).candidates[0]
        assert candidate.cost_bound_nusd(1, 1) is None
        assert candidate.cost_score == 0.0

    def test_dearer_is_worse_and_free_is_best(self) -> None:
        prices = ("0", "0.0005", "0.001", "1")
        scores = [Policy(document((priced(PLAIN, p),))).candidates[0].cost_score for p in prices]
        assert scores == sorted(scores, reverse=True)
        assert (scores[0], scores[2]) == (1.0, 0.5)

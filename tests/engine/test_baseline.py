"""What a request would have cost at the baseline."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine.baseline import NOBODY, Counterfactual, counterfactual
from routing.engine.catalog import PolicyDocument, PriceSpec, SavingsSpec
from routing.engine.need import Need
from tests.cast import CODER, EMBED, EVERYBODY, PLAIN, SAGE, TINY, Fleet, document, priced

CHEAP, DEAR = priced(TINY, "0.001"), priced(SAGE, "0.01")


def compared_with(spec: PolicyDocument, baseline: str) -> PolicyDocument:
    return msgspec.structs.replace(spec, savings=SavingsSpec(baseline=baseline))


def of(
    fleet: Fleet, task: str = "completion", tokens: tuple[int, int, int] = (100, 50, 0), **need: Any
) -> Counterfactual:
    """Return what `tokens` (prompt, completion, cached) would have cost."""
    asked = Need(task=task, **need)
    return counterfactual(fleet.policy, fleet.state, asked, tokens, fleet.now)


def test_the_named_model_at_its_prices() -> None:
    fleet = Fleet.of(compared_with(document((CHEAP, DEAR)), "sage"))
    assert of(fleet) == Counterfactual("sage", 150 * 10_000)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_it_is_what_the_model_itself_would_be_billed(prompt: int, completion: int) -> None:
    fleet = Fleet.of(compared_with(document((CHEAP, DEAR)), "sage"))
    (own,) = fleet.policy.by_model["sage"]
    assert of(fleet, tokens=(prompt, completion, 0)).nusd == own.cost_bound_nusd(prompt, completion)


@pytest.mark.parametrize("changes", [{"enabled": False}, {}])
def test_nobody_need_offer_it(changes: dict[str, Any]) -> None:
    dear = msgspec.structs.replace(DEAR, **changes)
    spec = document((CHEAP, dear), offerings=document((CHEAP,)).offerings)
    assert of(Fleet.of(compared_with(spec, "sage"))) == Counterfactual("sage", 1_500_000)


@pytest.mark.parametrize("name", ["sage", "gone"])
def test_what_is_not_known_is_not_nothing(name: str) -> None:
    spec = document((CHEAP, priced(SAGE, None)))
    assert of(Fleet.of(compared_with(spec, name))) == Counterfactual(name, None)


def test_a_chat_model_is_no_measure_of_an_embedding() -> None:
    fleet = Fleet.of(compared_with(document((EMBED, DEAR)), "sage"))
    assert of(fleet, "embedding") == Counterfactual("sage", None)
    fleet = Fleet.of(compared_with(document((EMBED, DEAR)), "embed"))
    assert of(fleet, "completion") == Counterfactual("embed", None)
    assert of(fleet, "embedding") == Counterfactual("embed", 0)


def test_a_named_chat_model_measures_tasks_that_it_is_not_meant_for() -> None:
    assert "code" not in DEAR.capabilities
    fleet = Fleet.of(compared_with(document((CODER, DEAR)), "sage"))
    assert of(fleet, "code") == Counterfactual("sage", 1_500_000)


class TestFirstAvailable:
    def test_by_name_among_those_that_can(self) -> None:
        fleet = Fleet.of(document())
        assert of(fleet).model == "coder"
        assert of(fleet, "code").model == "coder"
        assert of(fleet, "embedding").model == "embed"

    def test_whoever_is_not_there_is_passed_over(self) -> None:
        fleet = Fleet.of(document((CODER, PLAIN, SAGE)))
        fleet.trip("coder@cloud")
        assert of(fleet).model == "plain"
        fleet.live("plain@cloud").unusable = "not_offered"
        assert of(fleet).model == "sage"

    def test_nobody_where_nobody_can(self) -> None:
        fleet = Fleet.of(document((PLAIN,)))
        assert of(fleet, "code") == NOBODY
        assert of(Fleet.of(PolicyDocument())) == NOBODY

    def test_a_prompt_too_long_for_it_goes_to_the_next(self) -> None:
        long = msgspec.structs.replace(SAGE, context_length=100_000)
        fleet = Fleet.of(document((CODER, long)))
        assert of(fleet, prompt_tokens=50_000).model == "sage"

    def test_an_unknown_price_is_not_passed_over(self) -> None:
        fleet = Fleet.of(document((priced(CODER, None), DEAR)))
        assert of(fleet) == Counterfactual("coder", None)


def test_the_order_of_the_catalogue_does_not_matter() -> None:
    backwards = Fleet.of(document(tuple(reversed(EVERYBODY))))
    assert of(backwards) == of(Fleet.of(document()))


def test_dated_prices_count_for_the_baseline_too() -> None:
    """Cached tokens at its cached price, an embedding at its own, and what a request costs."""
    price = PriceSpec(
        model="sage", valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        input_per_1k_usd=Decimal("0.1"), output_per_1k_usd=Decimal("0.2"),
        cached_input_per_1k_usd=Decimal("0.01"), per_request_usd=Decimal("0.5"),
    )  # fmt: skip
    spec = msgspec.structs.replace(
        compared_with(document((CHEAP,)), "sage"), models=(CHEAP, DEAR), prices=(price,)
    )
    fleet = Fleet.of(spec)
    told = of(fleet, tokens=(1000, 100, 400)).nusd
    assert told == 60_000_000 + 4_000_000 + 20_000_000 + 500_000_000

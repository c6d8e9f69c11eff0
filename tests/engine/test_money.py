"""Prices: whole nano-dollars, rounded up, by the time, and never free because nobody said."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from routing.engine.bounds import bound_nusd
from routing.engine.catalog import HostCostSpec, PriceSpec
from routing.engine.ledger import Ledger
from routing.engine.money import Price, hour_nusd, of_host, of_spec
from routing.engine.need import Need
from routing.engine.policy import Policy
from routing.engine.tokens import TokenRatios, prompt_bound
from tests.cast import CLOUD, HERE, PLAIN, document, priced

NEW_YEAR = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
prices = st.integers(0, 10**12)
tokens = st.integers(0, 10**6)


def a_price(**more: Any) -> PriceSpec:
    told = {"input_per_1k_usd": Decimal("0.001"), "output_per_1k_usd": Decimal("0.002"), **more}
    return PriceSpec(model="plain", valid_from=told.pop("valid_from", NEW_YEAR), **told)


@given(
    price=st.builds(Price, prices, prices, prices, prices, prices),
    prompt=tokens, output=tokens, cached=tokens, more=tokens, embed=st.booleans(),
)  # fmt: skip
def test_the_bound_holds_for_whatever_is_used_of_it(
    price: Price, prompt: int, output: int, cached: int, more: int, embed: bool
) -> None:
    cost = price.cost_nusd(prompt, output, cached, embed=embed)
    assert cost <= price.bound_nusd(prompt, output, embed=embed)
    assert price.bound_nusd(prompt, output, embed=embed) <= price.bound_nusd(
        prompt + more, output + more, embed=embed
    )


def test_cached_tokens_and_requests_have_prices_of_their_own() -> None:
    price = of_spec(
        a_price(cached_input_per_1k_usd=Decimal("0.0001"), per_request_usd=Decimal("0.5"))
    )
    assert price.cost_nusd(1000, 0, 400) == 600_000 + 40_000 + 500_000_000
    assert price.cost_nusd(1, 0) == 1000 + 500_000_000
    assert not price.free
    assert Price(0, 0, 0, 0).free


def test_a_dated_price_counts_from_its_moment_until_the_next() -> None:
    later = NEW_YEAR + dt.timedelta(days=31)
    spec = replace(
        document((priced(PLAIN, "0.009"),), (CLOUD,)),
        prices=(a_price(), a_price(valid_from=later, input_per_1k_usd=Decimal("0.005"))),
    )

    def input_at(at: dt.datetime) -> int:
        (candidate,) = Policy(spec, at.timestamp()).candidates
        assert candidate.price is not None
        return candidate.price.input_nusd

    second = dt.timedelta(seconds=1)
    assert input_at(NEW_YEAR - second) == 9_000_000
    assert input_at(NEW_YEAR) == input_at(later - second) == 1_000_000
    assert input_at(later) == 5_000_000
    assert Policy(spec, NEW_YEAR.timestamp()).reprice_at_s == later.timestamp()


def test_a_hosts_hour_is_its_models_price() -> None:
    cost = HostCostSpec(
        host="local", watts=500, energy_per_kwh_usd=Decimal("0.30"),
        hardware_usd=Decimal(2628), lifetime_h=26_280,
    )  # fmt: skip
    assert hour_nusd(cost) == 250_000_000  # 15 cents of energy, 10 of wear
    spec = replace(document((PLAIN,), (HERE,)), host_costs=(cost,))
    (candidate,) = Policy(spec).candidates
    # 15 ms a token, a fast model's prior: 15 s for a thousand.
    assert candidate.price == of_host(250_000_000, 15.0)
    assert candidate.price is not None
    assert candidate.price.output_nusd == -(-250_000_000 * 15 // 3600)
    candidate.see_speed(30.04)
    assert candidate.price.output_nusd == -(-250_000_000 * 30 // 3600)
    dated = replace(spec, prices=(a_price(),))
    assert Policy(dated).candidates[0].price == of_spec(a_price())


@given(st.text(max_size=200))
def test_a_prompt_has_no_more_tokens_than_bytes_and_what_is_allowed_for(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    assert prompt_bound(size) >= size + 64


def test_what_a_template_adds_beyond_the_bound_is_too_little_once() -> None:
    ratios = TokenRatios()
    assert not ratios.see("m", text_bytes=100, bound=180, tokens=40, most=1000)
    assert ratios.see("m", text_bytes=100, bound=180, tokens=700, most=1000)
    assert ratios.excess("m") == 520
    assert not ratios.see("m", text_bytes=100, bound=180, tokens=700, most=1000)
    assert ratios.tokens("other", 400) == 101


def test_nothing_is_learned_beyond_what_a_model_has_room_for() -> None:
    ratios = TokenRatios()
    assert ratios.see("m", text_bytes=100, bound=180, tokens=10**9, most=1000)
    assert ratios.excess("m") == 820


def test_a_budgeted_answer_is_capped_and_its_bound_counts_bytes() -> None:
    (candidate,) = Policy(document((priced(PLAIN, "0.001"),), (CLOUD,))).candidates
    need = Need(task="completion", prompt_tokens=25, prompt_bound=180, max_tokens=20)
    assert bound_nusd(candidate, need) == 200_000
    candidate.excess_tokens = 100
    assert bound_nusd(candidate, need) == 300_000


@pytest.mark.parametrize("nusd", [0, 1, 999])
def test_an_empty_ledger_counts_nothing(nusd: int) -> None:
    assert Ledger().wallet("t", "k", "code", "", 0.0) is None

"""The price that holds at a moment: the latest that began."""

from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from routing.engine.catalog import PriceSpec
from routing.engine.policy import Policy
from tests.cast import PLAIN, document, priced

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = datetime(2026, 6, 1, tzinfo=UTC)


def price(valid_from: datetime, usd: str, model: str = "plain") -> PriceSpec:
    amount = Decimal(usd)
    return PriceSpec(
        model=model, valid_from=valid_from, input_per_1k_usd=amount, output_per_1k_usd=amount
    )


def test_a_price_holds_from_its_moment_until_the_next() -> None:
    rows = (price(SECOND, "3"), price(FIRST, "2"))  # in any order
    policy = Policy(document((priced(PLAIN, "1"),), prices=rows))

    def usd_at(when: datetime, offset_s: float = 0.0) -> Decimal:
        found = policy.price_at("plain", when.timestamp() + offset_s)
        assert found is not None
        return found.input_per_1k_usd

    assert usd_at(FIRST, -0.001) == 1
    assert usd_at(FIRST) == 2
    assert usd_at(SECOND, -0.001) == 2
    assert usd_at(SECOND) == 3


def test_an_unknown_price_is_no_price() -> None:
    policy = Policy(document((priced(PLAIN, None),), prices=(price(SECOND, "3"),)))
    assert policy.price_at("plain", FIRST.timestamp()) is None
    assert policy.price_at("plain", SECOND.timestamp()) is not None
    assert policy.price_at("nobody", FIRST.timestamp()) is None


@given(st.lists(st.integers(0, 10**9), unique=True, max_size=6), st.integers(-10, 10**9 + 10))
def test_the_latest_that_began_holds(moments: list[int], now: int) -> None:
    rows = tuple(price(datetime.fromtimestamp(at, UTC), str(at)) for at in moments)
    policy = Policy(document((priced(PLAIN, "1"),), prices=rows))
    begun = [at for at in moments if at <= now]
    found = policy.price_at("plain", now)
    assert found is not None
    assert found.input_per_1k_usd == (max(begun) if begun else 1)

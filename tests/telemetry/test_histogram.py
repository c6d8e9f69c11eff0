"""Percentiles by buckets stay near the true ones."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from telemetry.histogram import Histogram, bucket, middle


@given(st.integers(0, 2**40))
def test_a_bucket_stands_for_its_numbers_within_two_percent(value: int) -> None:
    assert abs(middle(bucket(value)) - value) <= value * 0.017


@given(st.integers(0, 2**40))
def test_buckets_are_in_order(value: int) -> None:
    assert bucket(value) <= bucket(value + 1) <= bucket(value) + 1


@given(st.lists(st.integers(0, 100_000), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_near_the_true_one(values: list[int], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    found = histogram.quantile(q)
    assert found is not None
    low = sorted(values)[max(0, int(q * len(values)) - 1)]
    high = sorted(values)[min(len(values) - 1, int(q * len(values)) + 1)]
    assert low * 0.98 <= found <= high * 1.02


def test_merging_is_counting_together() -> None:
    one, two, both = Histogram(), Histogram(), Histogram()
    for value in range(100):
        (one if value % 2 else two).add(value)
        both.add(value)
    one.merge(two)
    assert one.counts == both.counts
    assert one.quantile(0.5) == statistics.median_low(range(100))


def test_nothing_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram().quantiles(0.5, 0.99) == [None, None]


@given(st.lists(st.integers(0, 10_000), min_size=1), st.lists(st.floats(0, 1), min_size=1))
def test_several_quantiles_are_each_by_itself(values: list[int], fractions: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    assert histogram.quantiles(*fractions) == [histogram.quantile(q) for q in fractions]

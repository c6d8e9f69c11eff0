"""Percentiles of many numbers in little memory."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

# Steps per doubling: a bucket is at most 1/32 wide, and its middle at most 1.6 % off.
STEPS = 32
_STEP_BITS = 5


def bucket(value: int) -> int:
    """Return the bucket of a non-negative whole number; below 32 each number has its own."""
    if value < STEPS:
        return max(0, value)
    shift = value.bit_length() - _STEP_BITS - 1
    return STEPS * shift + (value >> shift)


def middle(index: int) -> int:
    """Return the number in the middle of a bucket."""
    if index < 2 * STEPS:
        return index
    shift = index // STEPS - 1
    low = (index - STEPS * shift) << shift
    return low + (1 << shift) // 2


def quantiles(buckets: Sequence[int], counts: Sequence[int], *fractions: float) -> list[int | None]:
    """Return the numbers below which the fractions (0..1) lie; None for each when empty.

    `buckets` are ascending, `counts` how many numbers fell into each.
    """
    if not buckets:
        return [None] * len(fractions)
    up_to = list(accumulate(counts))
    last = len(buckets) - 1
    return [middle(buckets[min(bisect_left(up_to, q * up_to[-1]), last)]) for q in fractions]


class Histogram:
    """Counts by bucket; holds only the buckets that were met."""

    __slots__ = ("counts",)

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        """`counts` are pairs of a bucket and how many numbers fell into it."""
        self.counts: dict[int, int] = dict(counts)

    def add(self, value: int) -> None:
        """Count one number."""
        index = bucket(value)
        self.counts[index] = self.counts.get(index, 0) + 1

    def merge(self, other: "Histogram") -> None:
        """Add what another one counted."""
        for index, count in other.counts.items():
            self.counts[index] = self.counts.get(index, 0) + count

    def quantile(self, q: float) -> int | None:
        """Return the number below which the fraction `q` (0..1) lies; None when empty."""
        return self.quantiles(q)[0]

    def quantiles(self, *fractions: float) -> list[int | None]:
        """Return the quantile of each fraction."""
        buckets = sorted(self.counts)
        return quantiles(buckets, [self.counts[index] for index in buckets], *fractions)

"""Percentiles of many numbers in little memory."""

from collections.abc import Iterable

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
        """Return the quantile of each fraction; the fractions are ascending."""
        total = sum(self.counts.values())
        if total == 0:
            return [None] * len(fractions)
        ordered = sorted(self.counts)
        found: list[int | None] = []
        at, seen = 0, self.counts[ordered[0]]
        for fraction in fractions:
            while seen < fraction * total and at < len(ordered) - 1:
                at += 1
                seen += self.counts[ordered[at]]
            found.append(middle(ordered[at]))
        return found

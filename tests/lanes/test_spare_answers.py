"""What a worker keeps itself of the answers that Redis did not take."""

from routing.coordination.answers import Mark
from routing.coordination.spare import Spare


def mark(size: int) -> Mark:
    return Mark(b"f" * 32, b"x" * size)


def test_it_is_kept_until_its_time_is_over() -> None:
    now = [100.0]
    spare = Spare(clock=lambda: now[0])
    spare.put("k", mark(5), 10)
    assert spare.get("k") == mark(5)
    now[0] = 110.0
    assert spare.get("k") is None


def test_the_oldest_go_first_where_they_are_too_much() -> None:
    spare = Spare(most_bytes=10)
    for key in "abc":
        spare.put(key, mark(4), 60)
    assert [spare.get(key) is not None for key in "abc"] == [False, True, True]


def test_what_is_larger_than_all_is_not_kept() -> None:
    spare = Spare(most_bytes=10)
    spare.put("a", mark(4), 60)
    spare.put("b", mark(11), 60)
    assert [spare.get(key) for key in "ab"] == [None, None]
    spare.put("c", mark(10), 60)
    assert spare.get("c") is not None


def test_put_twice_it_counts_once() -> None:
    spare = Spare(most_bytes=10)
    for _ in range(5):
        spare.put("a", mark(6), 60)
    assert spare.get("a") is not None

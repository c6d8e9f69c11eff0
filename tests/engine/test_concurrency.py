"""How many calls at once: found by trying, and let go of at the first complaint."""

import heapq
import itertools

import pytest

from routing.engine.concurrency import MOST, Ceiling, Outcome, Signals


def test_the_limit_doubles_until_the_first_complaint() -> None:
    ceiling = Ceiling(4.0)
    for step in range(4):
        ceiling.vote(1, step * 0.1)
    assert ceiling.whole == 64
    ceiling.vote(-1, 1.0)
    assert ceiling.whole == 44
    ceiling.vote(1, 1.5)
    assert ceiling.whole == 44
    ceiling.vote(1, 2.0)
    assert ceiling.whole == 45


def test_without_complaints_for_a_while_it_grows_by_halves_again() -> None:
    ceiling = Ceiling(10.0)
    ceiling.vote(-1, 0.0)
    limits = []
    for at in range(1, 8):
        ceiling.vote(1, float(at))
        limits.append(ceiling.whole)
    assert limits == [8, 9, 13, 20, 30, 45, 68]


def test_who_answers_nobody_is_ill_and_complains_once() -> None:
    signals, nobody = Signals(), Outcome(ok=False, refused=True)
    votes = []
    for outcomes in ((nobody,), (nobody, nobody), (), (nobody,), (Outcome(),), (nobody,)):
        for outcome in outcomes:
            signals.see("a", outcome)
        votes.append(signals.vote())
    assert votes == [-1, 0, 0, 0, 0, -1]


def test_who_answers_some_and_refuses_others_is_busy() -> None:
    signals = Signals()
    for _ in range(3):
        signals.see("a", Outcome(ok=False, refused=True))
        signals.see("a", Outcome())
        assert signals.vote() == -1


def test_one_moment_is_complained_of_once() -> None:
    ceiling = Ceiling(10.0)
    for at in (0.0, 0.1, 0.9):
        ceiling.vote(-1, at)
    assert ceiling.whole == 7


def test_the_limit_stays_within_its_bounds() -> None:
    low, high = Ceiling(1.0), Ceiling(1000.0)
    for step in range(20):
        low.vote(-1, step * 2.0)
        high.vote(1, step * 2.0)
    assert (low.whole, high.whole) == (1, MOST)


def test_nobody_raises_what_nobody_uses_up() -> None:
    signals = Signals()
    signals.see("a", Outcome())
    assert signals.vote() == 0
    signals.saturated = True
    assert signals.vote() == 0, "saturated, but nothing came back"


@pytest.mark.parametrize(
    ("outcome", "vote"),
    [
        (Outcome(ok=False, refused=True), -1),
        (Outcome(ok=False), 0),
        (Outcome(queued_ms=400, busy_ms=300), -1),
        (Outcome(queued_ms=40, busy_ms=30), 1),
        (Outcome(queued_ms=100, busy_ms=300), 1),
    ],
)
def test_what_speaks_for_fewer(outcome: Outcome, vote: int) -> None:
    signals = Signals()
    signals.saturated = True
    signals.see("a", outcome)
    assert signals.vote() == vote


def test_a_first_token_far_later_than_usual_is_a_complaint() -> None:
    signals = Signals()
    for ttft in (100.0, 110.0, 400.0):
        signals.see("a", Outcome(ttft_ms=ttft))
    assert signals.vote() == 0
    signals.see("a", Outcome(ttft_ms=500.0))
    assert signals.vote() == -1


def settled_limit(slots: int, *, start: int, clients: int, service_s: float) -> list[int]:
    """Simulate a server that works on `slots` at once and queues the rest; return late limits."""
    ceiling, signals = Ceiling(float(start)), Signals()
    free_at = [0.0] * slots
    ends: list[tuple[float, int, float]] = []
    number = itertools.count()
    now, seen = 0.0, []
    while now < 60:
        while len(ends) < min(ceiling.whole, clients):
            begin = max(now, heapq.heappop(free_at))
            heapq.heappush(free_at, begin + service_s)
            heapq.heappush(ends, (begin + service_s, next(number), begin - now))
        signals.saturated = len(ends) >= ceiling.whole
        now, _, waited = heapq.heappop(ends)
        signals.see("a", Outcome(queued_ms=waited * 1000, busy_ms=service_s * 1000))
        ceiling.vote(signals.vote(), now)
        if now > 20:
            seen.append(ceiling.whole)
    return seen


@pytest.mark.parametrize(("slots", "start"), [(1, 4), (4, 4), (16, 4), (40, 64)])
def test_it_settles_at_what_the_server_works_on_at_once(slots: int, start: int) -> None:
    limits = settled_limit(slots, start=start, clients=200, service_s=0.2)
    usual = sum(limits) / len(limits)
    assert slots * 0.6 <= usual <= slots * 2
    assert max(limits) <= slots * 2 + 1


def test_answers_that_begin_late_are_complaints_before_they_end() -> None:
    signals = Signals()
    for _ in range(10):
        signals.begun("m@e", 100.0)
    signals.saturated = True
    assert signals.vote() == 1
    for _ in range(10):
        signals.begun("m@e", 600.0)
    signals.saturated = True
    assert signals.vote() == -1

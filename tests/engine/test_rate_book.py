"""A book changes nothing but how often leases are: what is taken, spent and owed is the same."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.engine.rate_book import LEAST_REQUESTS, PART, Book, booked
from routing.engine.rate_lease import Lease, Taken, settle, spend, take
from routing.engine.rates import Grant, Limit

MOST = 1_000_000
UNITS = 4_000  # that each lease holds
ENDS_AT = 1.0


def nobody(lease: Lease) -> None:
    """Nobody leases more by himself."""


def leases(unit: str) -> tuple[Lease, ...]:
    return tuple(
        Lease(Limit(of="key", owner="ci", name=f"{unit}_per_{period}", most=MOST), "w")
        for period in ("minute", "day")
    )


def grant(lease: Lease, now: float, units: int) -> None:
    said = Grant(units=units, left=MOST, owed_us=0, wait_us=0, others=0, born_us=1)
    lease.hear(now, now, lease.state(now), said)


@dataclass
class Caller:
    """One caller's leases, and what its requests under way have taken."""

    requests: tuple[Lease, ...] = field(default_factory=lambda: leases("requests"))
    tokens: tuple[Lease, ...] = field(default_factory=lambda: leases("tokens"))
    under_way: list[Callable[[int], None]] = field(default_factory=list)
    book: Book | None = None

    def __post_init__(self) -> None:
        for lease in (*self.requests, *self.tokens):
            grant(lease, 0.0, UNITS)

    def enter(self, tokens: int) -> None:
        book = self.book
        if book is not None and book.take(tokens, 0.0):
            self.under_way.append(lambda spent: book.settle(tokens, spent))
            return
        self.close()
        spend(self.requests, 1, nobody)
        taken: list[Taken] = take(self.tokens, tokens, nobody)
        self.under_way.append(lambda spent: settle(taken, spent, nobody))

    def leave(self, which: int, spent: int) -> None:
        if self.under_way:
            self.under_way.pop(which % len(self.under_way))(spent)

    def open(self, tokens: int) -> None:
        if self.book is None:
            self.book = booked(self.requests, self.tokens, tokens, ENDS_AT, nobody)

    def close(self) -> None:
        if self.book is not None:
            self.book.close()
            self.book = None

    def play(self, steps: list[tuple[str, int, int]]) -> None:
        for what, number, spent in steps:
            if what == "enter":
                self.enter(number)
            elif what == "leave":
                self.leave(number, spent)
            elif what == "open":
                self.open(number)
            else:
                self.close()

    @property
    def standing(self) -> list[tuple[int, int, int]]:
        """Return of each lease what is free or, below zero, owed; what is out; what was taken."""
        every = (*self.requests, *self.tokens)
        return [(one.held - one.extra, one.out, one.used) for one in every]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 9), st.integers(0, 60)),
        st.tuples(st.just("open"), st.integers(0, 10), st.just(0)),
        st.tuples(st.just("close"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_the_leases_are_as_they_would_be_without(steps: list[tuple[str, int, int]]) -> None:
    with_, without = Caller(), Caller()
    with_.play(steps)
    without.play([step for step in steps if step[0] in ("enter", "leave")])
    with_.close()
    # Requests that are under way, too.
    assert with_.standing == without.standing
    for caller in (with_, without):
        while caller.under_way:
            caller.leave(0, 7)
    assert with_.standing == without.standing


@given(STEPS, st.lists(st.integers(0, 60)))
@settings(max_examples=300, deadline=None)
def test_what_lapsed_comes_back_to_nobody(
    steps: list[tuple[str, int, int]], spent_since: list[int]
) -> None:
    caller = Caller()
    caller.play(steps)
    for lease in (*caller.requests, *caller.tokens):
        # All of it is spent, Redis thinks: this process stood still.
        lease.state(lease.until)
    for spent in spent_since:
        caller.leave(0, spent)
    caller.close()
    while caller.under_way:
        caller.leave(0, 0)
    for lease in (*caller.requests, *caller.tokens):
        assert (lease.held, lease.out) == (0, 0)
        assert lease.extra >= 0


def test_a_book_serves_until_its_end_and_no_more_than_it_has() -> None:
    caller = Caller()
    book = booked(caller.requests, caller.tokens, 10, ENDS_AT, nobody)
    assert book is not None
    assert book.requests == book.tokens == UNITS // PART
    served = 0
    while book.take(10, 0.5):
        served += 1
    assert served == UNITS // PART // 10
    assert not book.take(10, 0.5)
    book.settle(10, 0)
    assert not book.take(10, ENDS_AT)
    assert book.take(10, 0.5)


def test_who_owes_takes_nothing_ahead() -> None:
    caller = Caller()
    book = booked(caller.requests, caller.tokens, 10, ENDS_AT, nobody)
    assert book is not None
    assert book.take(10, 0.0)
    book.settle(10, UNITS)
    assert not book.take(0, 0.0)
    book.close()
    assert [lease.held for lease in caller.tokens] == [0, 0]
    book.close()
    assert [lease.out for lease in (*caller.requests, *caller.tokens)] == [0, 0, 0, 0]


def test_where_units_are_few_there_is_no_book() -> None:
    caller = Caller()
    most = UNITS // PART // LEAST_REQUESTS
    assert booked(caller.requests, caller.tokens, most + 1, ENDS_AT, nobody) is None
    caller.tokens[0].waiting = [UNITS + 1]
    assert booked(caller.requests, caller.tokens, most, ENDS_AT, nobody) is None
    caller.tokens[0].waiting = []
    caller.requests[1].held = PART * LEAST_REQUESTS - 1
    assert booked(caller.requests, caller.tokens, most, ENDS_AT, nobody) is None
    assert [lease.out for lease in (*caller.requests, *caller.tokens)] == [0, 0, 0, 0]

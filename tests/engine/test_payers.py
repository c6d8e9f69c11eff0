"""Money taken ahead changes nothing but how often purses are: who may hold what is the same."""

from dataclasses import dataclass, field
from decimal import Decimal
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.engine import payers as ahead
from routing.engine.catalog import BudgetSpec, WhenExhausted
from routing.engine.ledger import Ledger
from routing.engine.payers import LEAST_CALLS, PART, Payers
from routing.engine.purse import Purse

TENANTS = ("one", "two")
SHARED_NUSD, OWN_NUSD = 2_000, 1_500


def budget(name: str, *, hard: bool = True, when: WhenExhausted = "refuse") -> BudgetSpec:
    own = name in TENANTS
    return BudgetSpec(
        name=name, scope="tenant" if own else "all", subject=name if own else "",
        limit_usd=Decimal(1), hard=hard, when_exhausted=when,
    )  # fmt: skip


BUDGETS = (budget("all"), budget("counted", hard=False), *map(budget, TENANTS))


@dataclass
class Worker:
    """A ledger with one purse that every call is paid from, one that only counts, and one each."""

    least_calls: float  # that money is taken ahead for
    ledger: Ledger = field(default_factory=Ledger)
    under_way: list[tuple[Payers, int]] = field(default_factory=list)
    woken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.ledger.bind(BUDGETS, 1)
        for tenant in TENANTS:
            self.payers(tenant)
        for purse in self.ledger.purses.values():
            if purse.hard:
                purse.granted = OWN_NUSD if purse.budget.name in TENANTS else SHARED_NUSD
        self.ledger.wake = lambda purse: self.woken.add(purse.budget.name)

    def payers(self, tenant: str) -> Payers:
        wallet = self.ledger.wallet(tenant, "", "code", "", 0.0)
        assert wallet is not None
        return wallet.payers("m")

    def hold(self, tenant: str, nusd: int) -> str:
        """Return the budget that has too little, or ''."""
        paying = self.payers(tenant)
        with patch.object(ahead, "LEAST_CALLS", self.least_calls), patch.object(ahead, "PART", 2):
            short = None if paying.hold(nusd) else self.ledger.take(paying, nusd, 1.0)
        if short is not None:
            return short.budget.name
        self.under_way.append((paying, nusd))
        return ""

    def end(self, which: int, part: int) -> None:
        """End a call that cost so many percent of what was held for it."""
        if self.under_way:
            paying, held = self.under_way.pop(which % len(self.under_way))
            nusd = held * part // 100
            if not paying.settle(held, nusd):
                self.ledger.settle(paying, held, nusd)

    def play(self, steps: list[tuple[str, int, int]]) -> list[str]:
        said = []
        for what, number, nusd in steps:
            if what == "hold":
                said.append(self.hold(TENANTS[number], nusd))
            elif what == "end":
                self.end(number, nusd)
            else:
                self.ledger.gather(2.0)
        return said

    @property
    def standing(self) -> dict[str, tuple[int, int, int, float]]:
        self.ledger.gather(2.0)
        return {
            p.budget.name: (p.free, p.charged, p.held, p.pace)
            for p in self.ledger.purses.values()
        }  # fmt: skip


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(0, 1), st.integers(1, 400)),
        st.tuples(st.just("end"), st.integers(0, 9), st.integers(0, 130)),
        st.tuples(st.just("gather"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=400, deadline=None)
def test_whoever_may_hold_may_hold_it_and_every_purse_is_as_it_would_be(
    steps: list[tuple[str, int, int]],
) -> None:
    with_, without = Worker(1), Worker(float("inf"))
    assert with_.play(steps) == without.play(steps)
    assert with_.standing == without.standing
    while with_.under_way:
        with_.end(0, 50)
        without.end(0, 50)
    assert with_.standing == without.standing
    assert all(held == 0 for _, _, held, _ in with_.standing.values())


@pytest.fixture
def worker() -> Worker:
    return Worker(LEAST_CALLS)


def purse_of(worker: Worker, name: str) -> Purse:
    return next(p for p in worker.ledger.purses.values() if p.budget.name == name)


def taken_ahead(worker: Worker, nusd: int = 1) -> int:
    """Return what one call more has taken for the next ones."""
    paying = worker.payers("one")
    assert worker.ledger.take(paying, nusd, 1.0) is None
    return paying.ahead


def test_a_part_of_what_is_free_is_taken_and_only_for_many_calls(worker: Worker) -> None:
    assert taken_ahead(worker) == (OWN_NUSD - 1) // PART
    few = OWN_NUSD // PART // LEAST_CALLS + 1
    assert taken_ahead(worker, few) == 0


def test_who_waits_or_is_called_for_or_short_keeps_others_from_taking_ahead(
    worker: Worker,
) -> None:
    paying = worker.payers("one")
    for purse in paying.purses:
        purse.waiting = 1
        assert taken_ahead(worker) == 0
        purse.waiting, purse.recalled = 0, True
        assert taken_ahead(worker) == 0
        purse.recalled, purse.short = False, 1
        assert taken_ahead(worker) == 0
        purse.short = None
        assert taken_ahead(worker) > 0


def test_what_prefers_free_models_is_looked_at_by_each_request_once_it_is_used_up() -> None:
    worker = Worker(LEAST_CALLS)
    worker.ledger.bind((*BUDGETS[:1], budget("counted", hard=False, when="prefer_free")), 2)
    counted = purse_of(worker, "counted")
    assert taken_ahead(worker) > 0
    worker.ledger.gather(1.0)
    counted.spent_seen = counted.limit
    assert taken_ahead(worker) == 0
    wallet = worker.ledger.wallet("one", "", "code", "", 0.0)
    assert wallet is not None
    assert (wallet.free_only, wallet.easy) == (True, False)


def test_a_lease_that_was_given_up_pays_nothing_that_was_taken_ahead(worker: Worker) -> None:
    old = worker.payers("one")
    assert taken_ahead(worker) > 0
    purse = purse_of(worker, "one")
    worker.ledger.replace(purse)
    assert not old.hold(1)
    assert purse.free == 0
    assert worker.ledger.take(old, 1, 1.0) is purse


def test_an_edited_budget_holds_for_the_next_call(worker: Worker) -> None:
    old = worker.payers("one")
    assert taken_ahead(worker) > 0
    worker.ledger.bind(BUDGETS, 2)
    assert not old.hold(1)


def test_more_is_leased_before_what_is_ahead_is_used_up(worker: Worker) -> None:
    while worker.hold("one", 20) == "":
        worker.end(0, 100)
    assert "one" in worker.woken


def test_an_answer_that_cost_more_than_was_held_is_paid_by_what_is_ahead(worker: Worker) -> None:
    paying = worker.payers("one")
    assert worker.hold("one", 1) == ""
    assert worker.hold("one", 1) == ""
    before = paying.ahead
    worker.end(0, 100 * (before + 5))
    assert paying.ahead < 0
    assert not paying.hold(1)
    worker.end(0, 100)
    worker.ledger.gather(1.0)
    purse = purse_of(worker, "one")
    assert (purse.held, purse.charged) == (0, before + 6)
    assert purse.free == OWN_NUSD - before - 6

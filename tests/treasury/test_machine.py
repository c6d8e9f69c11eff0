"""Workers, leases and crashes in every order that can be thought of, with a clock of their own.

The ledger is the real one; the bank is the model, or PostgreSQL's functions with the model beside
them, held equal after every step. What a crash leaves is what the spool and the slots would have.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg
import pytest
from django.db import connections
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from routing.engine import payers
from routing.engine.catalog import BudgetSpec
from routing.engine.ledger import Ledger
from routing.engine.payers import Payers
from routing.engine.purse import Purse
from tests.treasury.bank import Bank, ModelBank, SqlBank

DAY_S = 86_400
WORKERS = 4
amounts = st.integers(1, 40)
numbers = st.integers(0, 10**6)


@dataclass
class CallUnderWay:
    id: int
    payers: Payers
    bound: int

    @property
    def purses(self) -> tuple[Purse, ...]:
        return self.payers.purses


@dataclass
class Process:
    """A worker: what is in its memory, and what outlives it."""

    holder: str
    ledger: Ledger
    calls: list[CallUnderWay] = field(default_factory=list)
    payers: set[Payers] = field(default_factory=set)  # that a call was paid by


Record = tuple[int, dict[bytes, int]]  # id, charges


class Money(RuleBasedStateMachine):
    """One budget by the day, and a tighter one for one of two tenants; hard, but for edits."""

    bank: Bank
    make_bank: Callable[[], Bank] = ModelBank
    compare = False

    def __init__(self) -> None:
        super().__init__()
        self.bank = type(self).make_bank()
        self.model = ModelBank()
        self.now_s = 1000.0
        self.version = 1
        self.limits = {"all": 100, "one": 50}
        self.hard = {"all": True, "one": True}
        self.dearest: dict[bytes, int] = {}  # the highest limit that a window ever had
        self.windows: dict[bytes, Purse] = {}
        self.ids = itertools.count()
        self.holders = itertools.count()
        self.spool: list[Record] = []  # kept, in order, not yet shipped
        self.stored: dict[int, dict[bytes, int]] = {}
        self.dead: list[Process] = []
        self.processes = [self._process() for _ in range(WORKERS)]

    @initialize(limit=st.integers(0, 200))
    def begin(self, limit: int) -> None:
        self.edit(limit, limit // 2, True, True)

    def _process(self) -> Process:
        process = Process(f"holder-{next(self.holders)}", Ledger())
        process.ledger.bind(self._budgets(), self.version)
        return process

    def _budgets(self) -> list[BudgetSpec]:
        usd = {name: Decimal(limit) / 10**9 for name, limit in self.limits.items()}
        return [
            BudgetSpec(
                name=name,
                scope="tenant" if name == "one" else "all",
                subject="t1" if name == "one" else "",
                period="day",
                limit_usd=usd[name],
                hard=self.hard[name],
            )
            for name in ("all", "one")
        ]

    def _describe(self, purse: Purse) -> None:
        key = purse.window.id
        self.windows[key] = purse
        for bank in self._banks():
            bank.describe(key, purse.limit, purse.version)
        limit = self.bank.standing()[key][0]
        self.dearest[key] = max(self.dearest.get(key, 0), limit)

    def _banks(self) -> list[Bank]:
        return [self.bank, self.model] if self.compare else [self.bank]

    def _grant(self, process: Process, purse: Purse, nusd: int, ahead: int, *, lost: bool) -> None:
        if not purse.known:
            self._describe(purse)
            purse.known = True
        if not purse.hard:
            return
        least = nusd - purse.free
        if least <= 0:
            return
        cuts = {
            bank.grant(purse.window.id, purse.lease, process.holder, least, least, ahead)
            for bank in self._banks()
        }
        (cut,) = cuts
        limit, spent, leased = self.bank.standing()[purse.window.id]
        assert cut == 0 or spent + leased <= limit
        if lost:
            # The answer did not come: the lease is asked what it holds.
            granted = self.bank.leases().get(purse.lease, (0, 0, False))[0]
            purse.granted = max(granted, purse.charged + purse.held)
        else:
            purse.granted += cut

    # --- what happens ----------------------------------------------------------------------------

    @rule(
        who=st.integers(0, WORKERS - 1),
        tenant=st.sampled_from(["t0", "t1"]),
        nusd=amounts,
        ahead=st.integers(0, 60),
        lost=st.booleans(),
        late=st.sampled_from([0, 0, 0, DAY_S]),
    )
    def request(self, who: int, tenant: str, nusd: int, ahead: int, lost: bool, late: int) -> None:
        """A call may begin if its bound can be held; it may have come before a rollover."""
        process = self.processes[who]
        ledger = process.ledger
        wallet = ledger.wallet(tenant, "", "code", "", max(0.0, self.now_s - late))
        assert wallet is not None
        paying = wallet.payers("m")
        process.payers.add(paying)
        if not paying.hold(nusd):
            ledger.gather(self.now_s)
            for purse in paying.purses:
                self._grant(process, purse, nusd, ahead, lost=lost)
            if ledger.take(paying, nusd, self.now_s) is not None:
                return
        process.calls.append(CallUnderWay(next(self.ids), paying, nusd))

    @rule(who=st.integers(0, WORKERS - 1), which=numbers, part=st.integers(0, 100))
    def answer(self, who: int, which: int, part: int) -> None:
        process = self.processes[who]
        if not process.calls:
            return
        call = process.calls.pop(which % len(process.calls))
        nusd = call.bound * part // 100
        # First the record, then the memory: as the lane does it.
        self.spool.append((call.id, {p.account: nusd for p in call.purses} if nusd else {}))
        if not call.payers.settle(call.bound, nusd):
            process.ledger.settle(call.payers, call.bound, nusd)

    @rule(who=st.integers(0, WORKERS - 1))
    def gather(self, who: int) -> None:
        """What was taken ahead is put back, as before every look at the purses."""
        self.processes[who].ledger.gather(self.now_s)

    @rule(who=st.integers(0, WORKERS - 1), twice=st.booleans(), gathered=st.booleans())
    def give_back(self, who: int, twice: bool, gathered: bool) -> None:
        """Slack goes back, when idle or called for; asking twice gives it once."""
        if gathered:
            self.gather(who)
        for purse in self.processes[who].ledger.purses.values():
            for _ in range(1 + twice):
                self._give_back(purse)

    def _give_back(self, purse: Purse) -> None:
        if purse.hard:
            purse.granted = min(purse.granted, purse.charged + purse.held)
            for bank in self._banks():
                bank.give_back(purse.lease, purse.granted)

    @rule(count=st.integers(1, 10), again=st.booleans())
    def ship(self, count: int, again: bool) -> None:
        """A batch is stored; a conductor that died after it stores it again."""
        batch = self.spool[:count]
        for _ in range(1 + again):
            self._store(batch)
        del self.spool[:count]

    def _store(self, batch: list[Record]) -> None:
        charges: dict[bytes, int] = {}
        for number, paid in batch:
            if number in self.stored:
                continue
            self.stored[number] = paid
            for account, nusd in paid.items():
                charges[account] = charges.get(account, 0) + nusd
        if charges:
            for bank in self._banks():
                bank.settle(charges)

    @rule(who=st.integers(0, WORKERS - 1), kept=st.booleans(), part=st.integers(0, 100))
    def crash(self, who: int, kept: bool, part: int) -> None:
        """Killed, perhaps between keeping a record and forgetting its slot."""
        process = self.processes[who]
        if kept and process.calls:
            call = process.calls[-1]
            nusd = call.bound * part // 100
            self.spool.append((call.id, {p.account: nusd for p in call.purses}))
        self.dead.append(process)
        self.processes[who] = self._process()

    @precondition(lambda self: self.dead)
    @rule(again=st.booleans())
    def recover(self, again: bool) -> None:
        """The spool is drained, then what was under way is recorded, then the leases end."""
        process = self.dead.pop(0)
        self._store(self.spool)
        self.spool.clear()
        left = [(c.id, {p.account: c.bound for p in c.purses}) for c in process.calls]
        for _ in range(1 + again):
            self._store(left)
            for bank in self._banks():
                bank.bury(process.holder)

    @rule(
        limit=st.integers(0, 300), part=st.integers(0, 300), hard=st.booleans(), one=st.booleans()
    )
    def edit(self, limit: int, part: int, hard: bool, one: bool) -> None:
        """What is changed reaches the workers one by one: some ask and charge as it was."""
        self.version += 1
        self.limits = {"all": limit, "one": part}
        self.hard = {"all": hard, "one": one}

    @rule(who=st.integers(0, WORKERS - 1))
    def hear_of_edit(self, who: int) -> None:
        self.processes[who].ledger.bind(self._budgets(), self.version)

    @rule(who=st.integers(0, WORKERS - 1), hard=st.booleans())
    def turn(self, who: int, hard: bool) -> None:
        """A budget turns hard or soft while calls run, and a worker hears of it at once."""
        self.edit(self.limits["all"], self.limits["one"], hard, self.hard["one"])
        self.hear_of_edit(who)

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        self.now_s += hours * 3600
        for process in self.processes:
            process.ledger.gather(self.now_s)
            for purse in process.ledger.over_for_good(self.now_s):
                self._give_back(purse)
                process.ledger.drop(purse)

    # --- what must be true -----------------------------------------------------------------------

    @invariant()
    def never_over(self) -> None:
        """What soft budgets were charged is counted, and limited by nothing."""
        counted = self._stored()
        for key, (_, spent, leased) in self.bank.standing().items():
            assert 0 <= spent + leased <= self.dearest.get(key, 0) + counted.get(key, 0)
            assert leased >= 0

    @invariant()
    def the_books_agree(self) -> None:
        standing, leases = self.bank.standing(), self.bank.leases()
        if self.compare:
            assert standing == self.model.standing()
            assert leases == self.model.leases()
        stored = self._stored()
        assert sum(stored.values()) == sum(spent for _, spent, _ in standing.values())
        for account, nusd in stored.items():
            # A soft budget's window has no lease.
            assert account in self.windows or leases[account][1] == nusd
        held = sum(granted - settled for granted, settled, closed in leases.values() if not closed)
        assert held == sum(leased for _, _, leased in standing.values())

    def _stored(self) -> dict[bytes, int]:
        """Return what the stored records were charged, by account."""
        stored: dict[bytes, int] = {}
        for paid in self.stored.values():
            for account, nusd in paid.items():
                stored[account] = stored.get(account, 0) + nusd
        return stored

    @invariant()
    def nobody_spends_what_he_was_not_granted(self) -> None:
        leases = self.bank.leases()
        for process in self.processes:
            for purse in process.ledger.purses.values():
                assert purse.free >= 0 or not purse.hard
                ahead = sum(p.ahead + p.charged for p in process.payers if purse in p.purses)
                assert purse.held - ahead == sum(
                    c.bound for c in process.calls if any(p is purse for p in c.purses)
                )
                assert all(p.ahead >= 0 for p in process.payers)
                if purse.granted:
                    assert purse.granted <= leases[purse.lease][0]

    def teardown(self) -> None:
        """When all is answered, shipped and buried, nothing is held."""
        for who in range(WORKERS):
            while self.processes[who].calls:
                self.answer(who, 0, 100)
            self.crash(who, False, 0)
        while self.dead:
            self.recover(False)
        assert all(leased == 0 for _, _, leased in self.bank.standing().values())
        self.never_over()
        self.the_books_agree()


@pytest.fixture(autouse=True)
def always_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take money ahead even of budgets as small as these."""
    monkeypatch.setattr(payers, "PART", 2)
    monkeypatch.setattr(payers, "LEAST_CALLS", 1)


def test_whatever_happens_the_limit_holds_and_nothing_stays_held() -> None:
    run_state_machine_as_test(
        Money, settings=settings(max_examples=150, stateful_step_count=50, deadline=None)
    )


@pytest.mark.django_db(transaction=True)
def test_postgresql_does_what_the_model_does() -> None:
    wanted = connections["default"].get_connection_params()
    for ours in ("cursor_factory", "context", "pool"):
        wanted.pop(ours, None)
    with psycopg.connect(**wanted, autocommit=True) as connection:

        class InPostgres(Money):
            compare = True

            @staticmethod
            def make_bank() -> Bank:
                return SqlBank(connection)

        run_state_machine_as_test(
            InPostgres,
            settings=settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )

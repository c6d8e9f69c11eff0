"""One worker's part of the budgets: what it may spend without asking anybody. Pure.

A hard budget's money is leased from PostgreSQL in slices (`routing.treasury`). Of a slice, a call
first *holds* the most it can cost; when its record is kept, that becomes a *charge* of what it did
cost, and the rest is free again. What is held and charged never passes what was granted, so the
workers together never pass the limit. Soft budgets are counted, and refuse nothing.
"""

import math
from collections.abc import Callable, Iterable

from routing.engine.catalog import BudgetSpec
from routing.engine.payers import Payers
from routing.engine.purse import HALF_S, Purse
from routing.engine.wallet import Ready, Wallet, applying_to, wallet_of
from routing.engine.windows import window_of

# A window stays in memory this long after its end, for requests that began within it.
LINGER_S = 5.0
MOST_CACHED = 4096


class Ledger:
    """All purses of a worker. `wake` is called when PostgreSQL should be asked about one."""

    def __init__(self) -> None:
        self.purses: dict[bytes, Purse] = {}  # by lease
        self._windows: dict[bytes, Purse] = {}  # those that new requests are paid from
        self.wake: Callable[[Purse], None] = _nobody
        self.freed: Callable[[Purse], None] = _nobody
        self.version = 0
        self.overruns = 0  # answers that cost more than was held for them, or said so
        self.overrun_nusd = 0
        self._budgets: dict[str, BudgetSpec] = {}
        self._current: dict[str, Purse] = {}  # by budget
        self._ready: dict[tuple[str, str, str, str], Ready] = {}
        self._tags: frozenset[str] = frozenset()
        self._retired: set[bytes] = set()
        self._open: set[Payers] = set()  # that may have taken something ahead

    def bind(self, budgets: Iterable[BudgetSpec], version: int) -> None:
        """Take over an edited policy; it holds for the next hold on."""
        self.gather()
        self.version = version
        self._budgets = {b.name: b for b in budgets if b.enabled}
        self._tags = frozenset(b.subject for b in self._budgets.values() if b.scope == "tag")
        self._ready.clear()
        self._current.clear()
        for purse in self.purses.values():
            budget = self._budgets.get(purse.budget.name)
            if budget is None or budget.period != purse.window.period:
                purse.recalled = True
                self._retired.add(purse.window.id)
                self.wake(purse)
            elif budget.hard != purse.hard:
                self._pass_over(purse)
            elif purse.refresh(budget, version):
                self._retired.discard(purse.window.id)
                self.wake(purse)

    @property
    def limits_anything(self) -> bool:
        return bool(self._budgets)

    def wallet(self, tenant: str, key: str, task: str, tag: str, at_s: float) -> Wallet | None:
        """Return the money of a request that began at `at_s` (epoch); None if none is counted."""
        if not self._budgets:
            return None
        about = (tenant, key, task, tag if tag in self._tags else "")
        ready = self._ready.get(about)
        if ready is None or not ready.starts_at <= at_s < ready.ends_at:
            ready = self._make_ready(about, at_s)
        return wallet_of(ready) if ready.all else None

    def take(self, payers: Payers, nusd: int, now: float) -> Purse | None:
        """Hold `nusd` in every purse, or in none; return the first that has too little.

        Of what was taken ahead for the same payers, `Payers.hold` is sooner.
        """
        if payers.is_open:
            payers.put_back(now)
        short = payers.short_of(nusd)
        if short is not None and self._open:
            # What others took ahead is at hand again.
            self.gather(now)
            short = payers.short_of(nusd)
        if short is not None:
            return short
        payers.take(nusd, now)
        if payers.take_ahead(nusd):
            self._open.add(payers)
        for purse in payers.purses:
            # Half of what it is to have ahead is left.
            if purse.hard and purse.free < purse.pace * HALF_S:
                self.wake(purse)
        return None

    def settle(self, payers: Payers, held: int, nusd: int) -> None:
        """Turn a hold into a charge of `nusd`; 0 gives it back whole.

        While something is taken ahead, `Payers.settle` does it.
        """
        back = held - nusd
        for purse in payers.purses:
            purse.free += back
            purse.charged += nusd
            if purse.waiting and back > 0:
                self.freed(purse)

    def overrun(self, nusd: int) -> None:
        """Count an answer that cost so much more than was held for it."""
        self.overruns += 1
        self.overrun_nusd += nusd

    def gather(self, now: float = -math.inf) -> None:
        """Put back what was taken ahead: purses tell then what is free, held and charged.

        Nobody waits for it: who found too little has had it put back, and who waits for a purse
        keeps others from taking of it ahead.
        """
        while self._open:
            self._open.pop().put_back(now)

    def disbelieve(self) -> None:
        """Count an answer whose upstream claims to have used what nobody believes."""
        self.overruns += 1

    def slow_down(self, share: float) -> None:
        """Forget a share of the pace of every purse; called a few times a second."""
        for purse in self.purses.values():
            purse.pace = 0.0 if purse.pace < 1 else purse.pace * share

    def over_for_good(self, at_s: float) -> list[Purse]:
        """Return the purses that no request can need any more, but to give back what is free."""
        return [
            purse
            for purse in self.purses.values()
            if purse.idle
            and (
                purse.window.id in self._retired
                or self._windows.get(purse.window.id) is not purse
                or (purse.window.ends_at is not None and at_s > purse.window.ends_at + LINGER_S)
            )
        ]

    def of_window(self, window: bytes) -> Purse | None:
        """Return the purse that new requests of a window are paid from."""
        return self._windows.get(window)

    def keep(self, purse: Purse) -> None:
        """Remember a purse that was leased to, though its window was forgotten meanwhile."""
        self.purses[purse.lease] = purse

    def replace(self, purse: Purse) -> None:
        """Let a window be paid from a new lease: the old one was given up by somebody else.

        What is under way is charged to the old one all the same.
        """
        self.gather()
        purse.granted = purse.charged + purse.held
        self.drop(purse)

    def _pass_over(self, purse: Purse) -> None:
        """Let new requests be paid from another purse; calls under way end with this one."""
        purse.recalled = True
        if self._windows.get(purse.window.id) is purse:
            del self._windows[purse.window.id]
        self.wake(purse)

    def drop(self, purse: Purse) -> None:
        """Forget a purse that holds nothing and has nothing free."""
        self._ready.clear()
        self.purses.pop(purse.lease, None)
        if self._windows.get(purse.window.id) is purse:
            del self._windows[purse.window.id]
            self._retired.discard(purse.window.id)
        if self._current.get(purse.budget.name) is purse:
            del self._current[purse.budget.name]

    def _purse(self, budget: BudgetSpec, at_s: float) -> Purse:
        purse = self._current.get(budget.name)
        if purse is not None and purse.window.holds(at_s):
            return purse
        window = window_of(budget, at_s)
        found = self._windows.get(window.id)
        if found is None:
            found = self._windows[window.id] = Purse(budget, window, -math.inf, self.version)
            self.keep(found)
            self.wake(found)
        self._retired.discard(window.id)
        self._current[budget.name] = found
        return found

    def _make_ready(self, about: tuple[str, str, str, str], at_s: float) -> Ready:
        tenant, key, task, tag = about
        whose = (tenant, key, task)
        applying = applying_to(self._budgets.values(), tenant, key, task, tag)
        purses = tuple([self._purse(budget, at_s) for budget in applying.budgets])
        by_model = {
            model: Payers(whose, (*purses, *[self._purse(budget, at_s) for budget in budgets]))
            for model, budgets in applying.by_model.items()
        }
        everyone = (*purses, *(p for some in by_model.values() for p in some.purses))
        ends = [p.window.ends_at for p in everyone if p.window.ends_at is not None]
        ready = Ready(
            payers=Payers(whose, purses),
            by_model=by_model,
            all=tuple(dict.fromkeys(everyone)),
            starts_at=max((p.window.starts_at for p in everyone), default=-math.inf),
            ends_at=min(ends, default=math.inf),
        )
        if len(self._ready) >= MOST_CACHED:
            self._ready.clear()
        self._ready[about] = ready
        return ready


def _nobody(purse: Purse) -> None:
    """Without a treasury nothing is leased."""

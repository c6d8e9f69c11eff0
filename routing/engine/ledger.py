"""One worker's part of the budgets: what it may spend without asking anybody. Pure.

A hard budget's money is leased from PostgreSQL in slices (`routing.treasury`). Of a slice, a call
first *holds* the most it can cost; when its record is kept, that becomes a *charge* of what it did
cost, and the rest is free again. What is held and charged never passes what was granted, so the
workers together never pass the limit. Soft budgets are counted, and refuse nothing.
"""

import math
import uuid
from collections.abc import Callable, Iterable

import msgspec

from routing.engine.catalog import BudgetSpec
from routing.engine.errors import Shortage
from routing.engine.money import MOST_NUSD, to_nusd
from routing.engine.windows import Window, window_of

# Money for this many seconds at the present pace is leased ahead of need.
AHEAD_S = 2.0
HALF_S = AHEAD_S / 2
# A slice that nothing was taken from for this long is for others.
IDLE_S = 1.5
# A window stays in memory this long after its end, for requests that began within it.
LINGER_S = 5.0
MOST_CACHED = 4096

Charges = dict[bytes, int]  # lease, or window of a soft budget, to nano-dollars


class Purse:
    """One window's money in this worker; amounts are nano-dollars.

    It is hard or soft for as long as it lives: what was held in it is charged to the same account.
    """

    __slots__ = (
        "_granted",
        "account",
        "budget",
        "charged",
        "free",
        "hard",
        "known",
        "lease",
        "leased_seen",
        "limit",
        "ordered_at",
        "pace",
        "recalled",
        "short",
        "spent_seen",
        "used_at",
        "version",
        "waiting",
        "window",
    )

    def __init__(self, budget: BudgetSpec, window: Window, now: float, version: int = 0) -> None:
        self.budget, self.window = budget, window
        self.hard = budget.hard
        self.version = version  # of the policy that the limit is by
        self.limit = _limit(budget)
        self.lease = uuid.uuid4().bytes
        # Whose charge it is: the lease's, or a soft budget's window's.
        self.account = self.lease if budget.hard else window.id
        self._granted = 0
        self.charged = 0  # by records that are kept
        self.free = 0  # may be held yet; of a soft budget it only falls
        self.waiting = 0  # how many requests wait for money
        self.short: int | None = None  # so much more PostgreSQL could not grant
        self.pace = 0.0  # taken in the last second or so
        self.used_at = now
        self.ordered_at = -math.inf  # when PostgreSQL was last asked
        self.recalled = False  # another worker is short of what is free here
        self.known = False  # PostgreSQL has a row for the window, with this limit
        self.spent_seen = self.leased_seen = 0  # in all workers, when last asked

    @property
    def granted(self) -> int:
        """What is leased to this worker, what is charged already included."""
        return self._granted

    @granted.setter
    def granted(self, nusd: int) -> None:
        self.free += nusd - self._granted
        self._granted = nusd

    @property
    def held(self) -> int:
        """Return what calls under way hold."""
        return self._granted - self.charged - self.free

    @property
    def idle(self) -> bool:
        return self.held == 0 and self.waiting == 0

    @property
    def ahead(self) -> int:
        """Return how much to have free at the present pace."""
        return min(int(self.pace * AHEAD_S), MOST_NUSD)

    @property
    def remaining(self) -> int:
        """Return what is left of the limit, as far as this worker knows."""
        return max(0, self.limit - max(self.spent_seen, self.charged))

    @property
    def room(self) -> int:
        """Return what nobody had leased or spent, when PostgreSQL last said so."""
        return self.limit - self.spent_seen - self.leased_seen

    @property
    def over(self) -> bool:
        return self.spent_seen >= self.limit

    def lacks(self, nusd: int) -> bool:
        """Return True if so much is not free here, and PostgreSQL had no more."""
        if not self.hard or self.short is None:
            return False
        missing = nusd - self.free
        return missing > 0 and missing >= self.short

    def shortage(self, needed: int, at_s: float) -> Shortage:
        """Return what to say of a need that could not be paid at `at_s` (epoch)."""
        ends_at = self.window.ends_at
        passing = self.remaining >= needed
        wait_s = None if ends_at is None else max(1.0, ends_at - at_s)
        return Shortage(
            budget=self.budget.name,
            limit_nusd=self.limit,
            remaining_nusd=self.remaining,
            needed_nusd=needed,
            resets_at_s=ends_at,
            retry_after_s=1.0 if passing else wait_s,
            passing=passing,
        )

    def refresh(self, budget: BudgetSpec, version: int) -> bool:
        """Take over an edited budget of the same kind; return whether its limit is another."""
        limit = _limit(budget)
        changed = limit != self.limit
        if limit < self.limit:
            # What is free is given back, and asked for again under the new limit.
            self.recalled = True
        if changed:
            self.short, self.known = None, False
        self.budget, self.limit, self.version = budget, limit, version
        return changed


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
        self._ready: dict[tuple[str, str, str, str], _Ready] = {}
        self._tags: frozenset[str] = frozenset()
        self._retired: set[bytes] = set()

    def bind(self, budgets: Iterable[BudgetSpec], version: int) -> None:
        """Take over an edited policy; it holds for the next hold on."""
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

    def wallet(self, tenant: str, key: str, task: str, tag: str, at_s: float) -> "Wallet | None":
        """Return the money of a request that began at `at_s` (epoch); None if none is counted."""
        if not self._budgets:
            return None
        about = (tenant, key, task, tag if tag in self._tags else "")
        ready = self._ready.get(about)
        if ready is None or not ready.starts_at <= at_s < ready.ends_at:
            ready = self._make_ready(about, at_s)
        return _wallet(ready) if ready.all else None

    def take(self, purses: tuple[Purse, ...], nusd: int, now: float) -> bool:
        """Hold `nusd` in every purse, or in none; return which."""
        for purse in purses:
            if purse.free < nusd and purse.hard:
                return False
        for purse in purses:
            purse.free -= nusd
            purse.pace += nusd
            purse.used_at = now
            # Half of what it is to have ahead is left.
            if purse.free < purse.pace * HALF_S and purse.hard:
                self.wake(purse)
        return True

    def settle(self, purses: tuple[Purse, ...], held: int, nusd: int) -> None:
        """Turn a hold into a charge of `nusd`; 0 gives it back whole."""
        if nusd > held:
            self.overruns += 1
            self.overrun_nusd += nusd - held
        back = held - nusd
        for purse in purses:
            purse.free += back
            purse.charged += nusd
            if purse.waiting and back > 0:
                self.freed(purse)

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

    def _make_ready(self, about: tuple[str, str, str, str], at_s: float) -> "_Ready":
        applying = _applying(self._budgets.values(), *about)
        purses = tuple([self._purse(budget, at_s) for budget in applying.budgets])
        by_model = {
            model: _payers(*purses, *[self._purse(budget, at_s) for budget in budgets])
            for model, budgets in applying.by_model.items()
        }
        everyone = (*purses, *(p for some in by_model.values() for p in some.purses))
        ends = [p.window.ends_at for p in everyone if p.window.ends_at is not None]
        ready = _Ready(
            payers=_payers(*purses),
            by_model=by_model,
            all=tuple(dict.fromkeys(everyone)),
            starts_at=max((p.window.starts_at for p in everyone), default=-math.inf),
            ends_at=min(ends, default=math.inf),
        )
        if len(self._ready) >= MOST_CACHED:
            self._ready.clear()
        self._ready[about] = ready
        return ready


class Payers(msgspec.Struct, frozen=True, gc=False):
    """The purses that a call is paid from, and whose charge it is in each."""

    purses: tuple[Purse, ...]
    accounts: bytes


def _payers(*purses: Purse) -> Payers:
    return Payers(purses, b"".join([purse.account for purse in purses]))


class _Ready(msgspec.Struct, frozen=True, gc=False):
    """The purses of whoever asks alike, for as long as all of their windows last."""

    payers: Payers  # of calls to any model but these
    by_model: dict[str, Payers]
    all: tuple[Purse, ...]
    starts_at: float
    ends_at: float


class _Applying(msgspec.Struct, frozen=True):
    budgets: tuple[BudgetSpec, ...]
    by_model: dict[str, tuple[BudgetSpec, ...]]


def _applying(
    budgets: Iterable[BudgetSpec], tenant: str, key: str, task: str, tag: str
) -> _Applying:
    subjects = {"tenant": tenant, "key": key, "task": task, "tag": tag}
    general: list[BudgetSpec] = []
    by_model: dict[str, tuple[BudgetSpec, ...]] = {}
    # By name: every worker takes them in the same order.
    for budget in sorted(budgets, key=lambda b: b.name):
        if budget.scope == "model":
            by_model[budget.subject] = (*by_model.get(budget.subject, ()), budget)
        elif budget.scope == "all" or (
            budget.subject and subjects.get(budget.scope) == budget.subject
        ):
            general.append(budget)
    return _Applying(tuple(general), by_model)


class Wallet(msgspec.Struct):
    """What one request may be paid from. It says which prices it cannot pay, and remembers that."""

    ready: _Ready
    refused: list[str] = []  # ids of candidates that could not be paid
    short: Purse | None = None  # the first that could not pay
    strict: bool = False  # not even what is free stands in for what cannot be paid
    free_only: bool = False  # soft budgets that are used up may prefer what is free, too
    # Nothing is short, as far as is known: whatever has a price can be paid.
    easy: bool = True

    def payers(self, model: str) -> Payers:
        """Return what a call to `model` is paid from."""
        return self.ready.by_model.get(model, self.ready.payers)

    def limits(self, model: str) -> bool:
        """Return True if a hard budget counts calls to `model`."""
        return any(purse.hard for purse in self.payers(model).purses)

    def refuses(self, candidate: str, model: str, bound_nusd: int | None) -> str:
        """Return the reason code why a candidate cannot be paid, or ''."""
        if bound_nusd is None:
            return "price_unknown" if self.free_only or self.limits(model) else ""
        if bound_nusd == 0:
            return "budget_exhausted" if self.strict else ""
        if self.free_only:
            return "budget_exhausted"
        for purse in self.payers(model).purses:
            if purse.lacks(bound_nusd):
                self.refuse(candidate, purse)
                return "budget_exhausted"
        return ""

    def refuse(self, candidate: str, purse: Purse) -> None:
        """Note that a candidate could not be paid from a purse."""
        self.short, self.easy = self.short or purse, False
        if candidate not in self.refused:
            self.refused.append(candidate)

    def narrow(self, purse: Purse) -> None:
        """Go on as the budget that is short wants it: with free models only, or with none."""
        self.easy = False
        if _prefers_free(purse):
            self.free_only = True
        else:
            self.strict = True


def _wallet(ready: _Ready) -> Wallet:
    """Return a wallet that knows which of its purses are short, or used up."""
    wallet = Wallet(ready)
    for purse in ready.all:
        if purse.short is not None:
            wallet.easy = False
        elif not purse.hard and purse.over and _prefers_free(purse):
            wallet.free_only, wallet.easy = wallet.free_only or purse in ready.payers.purses, False
    return wallet


def _limit(budget: BudgetSpec) -> int:
    """Return a limit in nano-dollars, less than what stands for any higher cost."""
    return min(to_nusd(budget.limit_usd) or 0, MOST_NUSD - 1)


def _prefers_free(purse: Purse) -> bool:
    return purse.budget.when_exhausted == "prefer_free"


def _nobody(purse: Purse) -> None:
    """Without a treasury nothing is leased."""

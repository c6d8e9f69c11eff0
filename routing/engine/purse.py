"""One window's money in one worker. Pure."""

import math
import uuid

from routing.engine.catalog import BudgetSpec
from routing.engine.errors import Shortage
from routing.engine.money import MOST_NUSD, to_nusd
from routing.engine.windows import Window

# Money for this many seconds at the present pace is leased ahead of need.
AHEAD_S = 2.0
HALF_S = AHEAD_S / 2


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

    @property
    def prefers_free(self) -> bool:
        """Return True if models that cost nothing stand in where it is used up."""
        return self.budget.when_exhausted == "prefer_free"

    @property
    def troubled(self) -> bool:
        """Return True if requests must look at it before they choose a model."""
        return self.short is not None or (not self.hard and self.over and self.prefers_free)

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


def _limit(budget: BudgetSpec) -> int:
    """Return a limit in nano-dollars, less than what stands for any higher cost."""
    return min(to_nusd(budget.limit_usd) or 0, MOST_NUSD - 1)

"""The purses that a call is paid from, and money that was taken of all of them ahead. Pure.

A call that two budgets count changes two purses when it begins and two when it ends. Where money
is plentiful, it changes one sum instead, and the purses once for thousands of calls. What was taken
ahead counts as held, and what it paid is charged to nobody yet: both until `put_back`.
"""

import math

from routing.engine.money import MOST_NUSD
from routing.engine.purse import Purse

# One in so many of the nano-dollars that are free is taken ahead, so others find enough.
PART = 8
# What would pay fewer calls is not worth the taking.
LEAST_CALLS = 16


class Payers:
    """The purses of a call; amounts are nano-dollars, each the same of every purse."""

    __slots__ = ("accounts", "ahead", "charged", "is_open", "purses", "taken", "whose")

    def __init__(self, whose: tuple[str, str, str], purses: tuple[Purse, ...]) -> None:
        self.whose = whose  # calls they pay: of which tenant, key and task
        self.purses = purses
        # Whose charge it is in each of them.
        self.accounts = b"".join([purse.account for purse in purses])
        # Something was taken ahead, and not put back: no purse was troubled then, or is since.
        self.is_open = False
        self.ahead = 0  # of that, what no call holds; below zero where one cost more than it held
        self.charged = 0  # and what records that are kept were charged
        self.taken = 0  # by calls, what came back included

    def hold(self, nusd: int) -> bool:
        """Hold `nusd` of what was taken ahead; return whether there was as much."""
        if self.ahead < nusd:
            return False
        self.ahead -= nusd
        self.taken += nusd
        return True

    def short_of(self, nusd: int) -> Purse | None:
        """Return the first purse that has too little free."""
        for purse in self.purses:
            if purse.free < nusd and purse.hard:
                return purse
        return None

    def take(self, nusd: int, now: float) -> None:
        """Hold `nusd` in every purse."""
        for purse in self.purses:
            purse.free -= nusd
            purse.pace += nusd
            purse.used_at = now

    def take_ahead(self, nusd: int) -> bool:
        """Take more for the next calls of about `nusd`, where it is plentiful; return whether."""
        most = MOST_NUSD
        for purse in self.purses:
            if purse.troubled or purse.waiting or purse.recalled:
                return False
            if purse.hard:
                most = min(most, purse.free // PART)
        if most < LEAST_CALLS * nusd:
            return False
        for purse in self.purses:
            purse.free -= most
        self.ahead, self.is_open = most, True
        return True

    def put_back(self, now: float = -math.inf) -> None:
        """Let every purse have what was not used of it, and be charged what was."""
        for purse in self.purses:
            purse.free += self.ahead
            purse.charged += self.charged
            if self.taken:
                purse.pace += self.taken
                purse.used_at = max(purse.used_at, now)
        self.ahead = self.charged = self.taken = 0
        self.is_open = False

    def settle(self, held: int, nusd: int) -> bool:
        """Turn a hold into a charge, while something is taken ahead; return whether it is."""
        if not self.is_open:
            return False
        self.ahead += held - nusd
        self.charged += nusd
        return True

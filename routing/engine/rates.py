"""How much of a limit is left: GCRA whose units are leased to workers. Pure: it is told the time.

A `Bucket` holds at most `burst` units and gains `most` of them in a period. The generic cell rate
algorithm keeps one number for it: the time at which it will be full (`full_at_us`). What differs
here is that workers lease units ahead of need, so units on their way belong to the bucket too:

    units in the bucket + units leased and not yet spent <= burst          (always)

It gains nothing beyond that, so hoarding earns no more than waiting, giving back is exact, and in
any window of w microseconds no more than `burst + most * w / period` are spent, whichever worker
spends them, and when. A worker that is heard of no more has spent what it held.

`routing.coordination.rates_script` is the same in Lua; a test holds the two to the same answers.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from routing.engine.catalog import LimitsSpec

Unit = Literal["requests", "tokens", "streams"]
Owner = Literal["tenant", "key"]

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
# A period of 0: units are permits, which come back by being given back only.
DIMENSIONS: dict[str, tuple[Unit, int]] = {
    "requests_per_minute": ("requests", MINUTE_US),
    "requests_per_day": ("requests", DAY_US),
    "tokens_per_minute": ("tokens", MINUTE_US),
    "tokens_per_day": ("tokens", DAY_US),
    "concurrent_streams": ("streams", 0),
}


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One limit of one tenant or key: `most` units a period; with no period, at once."""

    of: Owner
    owner: str
    name: str  # a key of DIMENSIONS
    most: int

    @property
    def id(self) -> str:
        return f"{self.of}/{self.owner}/{self.name}"

    @property
    def unit(self) -> Unit:
        return DIMENSIONS[self.name][0]

    @property
    def period_us(self) -> int:
        return DIMENSIONS[self.name][1]

    @property
    def words(self) -> str:
        """Return what it allows, after 'may'."""
        if self.period_us == 0:
            return f"have {self.most} streamed answers at once"
        verb = "make" if self.unit == "requests" else "use"
        span = "minute" if self.period_us == MINUTE_US else "day"
        return f"{verb} {self.most} {self.unit} a {span}"

    @property
    def burst(self) -> int:
        """Units that may be spent at once after a long rest: a whole period's."""
        return self.most


def limits_of(of: Owner, owner: str, spec: LimitsSpec) -> Iterator[Limit]:
    """Yield the limits that `spec` sets for a tenant or key, in the order of DIMENSIONS."""
    for name in DIMENSIONS:
        most = getattr(spec, name)
        if most is not None:
            yield Limit(of=of, owner=owner, name=name, most=most)


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells a bucket and wants of it. Counts are units.

    Everything but `extra` may be told twice without harm: what a worker holds is absolute, and
    it is given back no more than Redis knows it to have had.
    """

    worker: str
    seq: int  # grows with every word of this worker: what is older is not heard
    holds: int  # leased and not spent, with what requests under way may still spend
    back: int = 0  # given back; no longer part of `holds`
    extra: int = 0  # spent beyond what was leased
    least: int = 0  # no use in less
    wanted: int = 0  # what requests wait for
    ahead: int = 0  # what is likely to be needed soon
    ttl_us: int = 0  # without a word for this long, the worker has spent what it holds
    most: int  # the limit, as its policy says; another one than before is a new limit
    # What it knew last: brings a bucket back that was lost.
    born_us: int = 0
    owed_us: int = 0


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a bucket answers."""

    units: int
    left: int  # units in the bucket afterwards, leased ones not counted; negative: in debt
    owed_us: int  # until it would be full, if nobody asked any more
    wait_us: int  # until `least` may be granted; 0 where it was
    others: int  # units that other workers hold
    born_us: int


class Row(msgspec.Struct):
    """One worker's lease."""

    holds: int
    until_us: int
    seq: int
    most: int  # the limit it told last


class Bucket:
    """The units of one limit, and who holds how many of them."""

    def __init__(self, most: int, period_us: int, burst: int) -> None:
        self.most, self.period_us, self.burst = most, period_us, burst
        self.full_at_us = 0
        self.born_us = 0
        self.rows: dict[str, Row] = {}

    def ask(self, now_us: int, ask: Ask, workers: int = 1) -> Grant:
        """Hear what a worker spent and gives back, and lease it what it wants and is there."""
        self._lapse(now_us)
        mine = self.rows.get(ask.worker)
        others = sum(row.holds for who, row in self.rows.items() if who != ask.worker)
        if mine is not None and ask.seq <= mine.seq:
            return self._grant(now_us, 0, 0, others)
        self._begin(now_us, ask)
        # While a new policy spreads, others may still speak of the limit that was.
        if mine is None or mine.most != ask.most:
            self.heed(now_us, ask.most)
        held = mine.holds if mine is not None else 0
        self.fill(now_us)
        back = min(ask.back, max(held - ask.holds, 0))
        self.full_at_us += self._cost_us(ask.extra) - self._credit_us(back)
        self.rows[ask.worker] = Row(ask.holds, now_us + ask.ttl_us, ask.seq, ask.most)
        self.fill(now_us)
        units = self._lease(now_us, ask, workers)
        self.full_at_us += self._cost_us(units)
        self.rows[ask.worker].holds += units
        wait_us = self._wait_us(now_us, ask.least) if units == 0 and ask.wanted > 0 else 0
        return self._grant(now_us, units, wait_us, others)

    def heed(self, now_us: int, most: int) -> None:
        """Keep to another limit from now on, of which is spent what was spent of the one before.

        One that was cut is whole again after a period, or when the debt would be paid that it had.
        """
        if most == self.most:
            return
        owed_us = max(self.full_at_us - now_us, 0)
        owed_anew_us = -(-owed_us * self.most // most)
        self.full_at_us = now_us + min(owed_anew_us, max(owed_us, self.period_us))
        self.most, self.burst = most, max(self.burst * most // self.most, 1)

    def begin(self, now_us: int, worker: str, holds: int, left: int, seq: int) -> None:
        """Begin with a worker's lease and so many units left, instead of full."""
        self.born_us = now_us
        self.rows = {worker: Row(holds, 2**53, seq, self.most)}
        room = min(left, self.burst)
        self.full_at_us = now_us + self._cost_us(self.burst) - self._credit_us(room)

    def left(self, now_us: int) -> int:
        """Return the units that may be leased now; negative while there is a debt."""
        if self.period_us == 0:
            return self.most - self.leased
        return self._room_us(now_us) * self.most // self.period_us

    @property
    def leased(self) -> int:
        return sum(row.holds for row in self.rows.values())

    def _lapse(self, now_us: int) -> None:
        self.rows = {who: row for who, row in self.rows.items() if row.until_us > now_us}

    def _begin(self, now_us: int, ask: Ask) -> None:
        if self.born_us == 0:
            self.born_us, self.full_at_us = now_us, now_us
            self.heed(now_us, ask.most)
        if ask.born_us not in (0, self.born_us):
            self.full_at_us = max(self.full_at_us, now_us + ask.owed_us)

    def fill(self, now_us: int) -> None:
        """Let the bucket hold no more than what is not leased of its burst."""
        self.full_at_us = max(self.full_at_us, now_us + self._cost_us(self.leased))

    def _lease(self, now_us: int, ask: Ask, workers: int) -> int:
        left = max(self.left(now_us), 0)
        if left < ask.least:
            return 0
        units = min(ask.wanted, left)
        if units < ask.wanted:
            return units
        # What is leased ahead must not be missing elsewhere: near the limit nobody gets any.
        return units + min(ask.ahead, (left - units) // (2 * workers))

    def _room_us(self, now_us: int) -> int:
        return self._cost_us(self.burst) - (self.full_at_us - now_us)

    def _wait_us(self, now_us: int, units: int) -> int:
        if self.period_us == 0:
            return 0
        return max(self._cost_us(max(units, 1)) - self._room_us(now_us), 0)

    def _grant(self, now_us: int, units: int, wait_us: int, others: int) -> Grant:
        return Grant(
            units=units,
            left=self.left(now_us),
            owed_us=max(self.full_at_us - now_us, 0),
            wait_us=wait_us,
            others=others,
            born_us=self.born_us,
        )

    def _cost_us(self, units: int) -> int:
        """Return the time in which so many units come in; rounded up, so never too little."""
        return -(-units * self.period_us // self.most)

    def _credit_us(self, units: int) -> int:
        return units * self.period_us // self.most

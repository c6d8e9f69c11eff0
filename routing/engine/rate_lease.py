"""One worker's units of one limit: what a request takes without asking anybody. Pure.

Times are seconds of the worker's monotonic clock; counts are units of the limit.
"""

import math
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from routing.engine.rates import Ask, Bucket, Grant, Limit

# A worker keeps about as many units at hand as it spends in this time.
AHEAD_S = 0.5
# What is left of a spending habit after this long without any is 1/e.
HABIT_S = 1.0
LEAST_AHEAD = 0.05
TTL_S = 5.0
# A worker that was held up stops using its units before Redis counts them as spent.
MARGIN_S = 0.5
# A dry bucket is not asked again before this: others may give back at any time.
DRY_S = 0.05
# For so long after they were called, other workers may give back what they hold.
GIVE_BACK_S = 0.25
# Of a limit that is far from used up a worker keeps this part at hand, for so long after its last
# use: a burst after a rest need not wait for Redis.
KEPT_PART = 2000
KEPT_FOR_S = 30.0
# Who was asked to give back leases nothing ahead for a while.
YIELD_S = 1.0
MICRO = 1_000_000
# Long after any lease; an own share is nobody else's to take.
FOREVER_US = 2**53


class Lease:
    """Units taken, spent and given back in one worker."""

    __slots__ = (
        "_before", "_denied", "_denied_at", "_denied_since", "_dry_until", "_heard", "_local",
        "_net", "_rate", "_seq", "_stated_at", "_told", "_used_at", "_yield_until",
        "burst", "extra", "heard_at", "held", "limit", "low", "out", "pace_s", "term", "until",
        "unit", "used", "waiting", "worker",
    )  # fmt: skip

    def __init__(self, limit: Limit, worker: str) -> None:
        self.worker = worker
        self.heed(limit)
        self.held = 0  # free to be taken
        self.out = 0  # taken by requests under way; what they do not spend comes back
        self.term = 0  # how often what was held has lapsed
        self.used = 0  # taken since Redis was told
        self.extra = 0  # spent beyond what was leased; Redis is told next time
        self.until = -math.inf  # when `held` is void
        self.low = 0  # with fewer than this, more is leased
        self.waiting: list[int] = []  # what each waiting request needs
        self.heard_at = -math.inf
        self._heard: Grant | None = None
        self._denied = 0  # units; who needs fewer may find them
        self._denied_at = self._denied_since = -math.inf
        self._dry_until = -math.inf
        self._told = 0  # what Redis, or the own share, takes this worker to hold
        self._local: Bucket | None = None
        self._before: tuple[Grant | None, float] = (None, -math.inf)
        self._net = 0  # leased from the own share, less what was given back
        self._rate = 0.0  # units spent a second
        self._used_at = -math.inf
        self._seq = 0
        self._stated_at = -math.inf
        self._yield_until = -math.inf

    def heed(self, limit: Limit) -> None:
        """Keep to this limit from now on; what is held was leased and remains so."""
        # What the limit before had no more of, this one may have.
        self._dry_until = self._denied_at = -math.inf
        self.limit, self.unit, self.burst = limit, limit.unit, limit.burst
        # Units a second that come in; permits come back by being given back only.
        self.pace_s = limit.most * MICRO / limit.period_us if limit.period_us else 0.0

    @property
    def degraded(self) -> bool:
        """Return True while this worker keeps to its own share."""
        return self._local is not None

    @property
    def idle(self) -> bool:
        """Return True if Redis need not hear of it."""
        return not (self.held or self.out or self.extra or self.waiting)

    @property
    def others(self) -> int:
        """Return what other workers held when Redis spoke last."""
        return self._heard.others if self._heard is not None else 0

    def price(self, units: int) -> int:
        """Return what so many units cost: who needs more than there ever is, needs all of it."""
        return units if units < self.burst else self.burst

    def has(self, units: int, now: float) -> bool:
        return self.held >= units and now < self.until

    def overspend(self, taken: int, spent: int, term: int) -> None:
        """End what was too little, or taken in an earlier term: that counts as spent, all of it."""
        missing = max(spent - taken, 0)
        if term != self.term:
            self.extra += missing
            return
        self.out -= taken
        from_held = min(missing, self.held)
        self.held -= from_held
        self.extra += missing - from_held

    def give_way(self, now: float) -> bool:
        """Keep nothing ahead for a while: others are short. Return True if Redis should hear."""
        self._yield_until = now + YIELD_S
        # What was spent is told too: who is short then knows that it does not come back.
        return self.held > 0 or self.held + self.out != self._told

    def dry(self, units: int, now: float) -> bool:
        """Return True if so many units were just refused, and would be again."""
        return now < self._dry_until and units - self.held >= self._denied

    def state(self, now: float) -> Ask:
        """Return what to tell the bucket, and give back what is not needed *before* it is told.

        Were it the other way round, a request could take what Redis had just leased to another.
        """
        self._lapse(now)
        target = self._target(now)
        needed = sum(self.waiting)
        back = 0 if needed else max(self.held - 2 * target, 0)
        self.held -= back
        wanted = max(needed - self.held, 0)
        least = max(min(self.waiting) - self.held, 0) if wanted else 0
        ahead = 0 if now < self._yield_until else max(target - self.held, wanted, 0)
        self.low = target // 2
        self._seq += 1
        self._told = self.held + self.out
        heard = self._heard
        return Ask(
            worker=self.worker,
            seq=self._seq,
            holds=self._told,
            back=back,
            extra=self.extra,
            least=least,
            wanted=wanted,
            ahead=ahead,
            ttl_us=int(TTL_S * MICRO),
            most=self.limit.most,
            born_us=heard.born_us if heard is not None else 0,
            owed_us=max(heard.owed_us - self._since_us(now), 0) if heard is not None else 0,
        )

    def hear(self, now: float, asked_at: float, ask: Ask, grant: Grant) -> None:
        """Take in an answer of Redis to what was told at `asked_at`."""
        if self._local is not None or ask.seq != self._seq:
            return  # too late: what was granted was not told of since, so it is spent by now
        self.until = asked_at + TTL_S - MARGIN_S
        self._take_in(now, ask, grant)

    def lose(self, now: float, workers: int) -> None:
        """Go on with an equal share of the limit, beginning with what was last known to be left."""
        if self._local is not None:
            return
        self._lapse(now)
        # What is held here is nobody else's.
        left = max(self.left(now) - self.held, 0) // workers
        self._local = _share(self.limit, workers)
        self._local.begin(int(now * MICRO), self.worker, self.held + self.out, left, self._seq)
        self._net = 0
        self._before = (self._heard, self.heard_at)
        self.until = math.inf

    def ask_share(self, now: float) -> None:
        """Lease from the own share, while Redis is away."""
        if self._local is None:
            return
        ask = replace(self.state(now), ttl_us=FOREVER_US)
        grant = self._local.ask(int(now * MICRO), ask)
        self._net += grant.units + ask.extra - ask.back
        self._take_in(now, ask, grant)

    def regain(self) -> None:
        """Have Redis told of what was spent without it; held units are leased anew."""
        if self._local is None:
            return
        self._local = None
        self.extra = max(self._net - self.held, 0) if self.limit.period_us else 0
        self.held = 0
        # The share's word is none of the bucket's.
        self._heard, self.heard_at = self._before
        self.until = -math.inf
        self._dry_until = self._denied_at = -math.inf

    def left(self, now: float) -> int:
        """Return about how many units are left to the fleet, with what is held here."""
        local, heard = self._local, self._heard
        if local is not None:
            return max(min(self._balance(now), local.burst - self.out), 0)
        if heard is None:
            return self.burst
        left = heard.left + int((now - self.heard_at) * self.pace_s) + self.held - self.extra
        most = self.burst - self.out
        if left > most:
            left = most
        return left if left > 0 else 0

    def wait_s(self, now: float, units: int) -> float:
        """Return when `units` may be had, as far as is known here."""
        if not self.pace_s:
            return 1.0
        return max(units - self._balance(now), 1) / self._pace_s()

    def reset_s(self, left: int) -> float:
        """Return when everything would be left again, if nobody spent any more."""
        return (self.burst - left) / self.pace_s if self.pace_s else 0.0

    def _lapse(self, now: float) -> None:
        """Give up what Redis counts as spent by now, with what requests under way have of it."""
        if now < self.until:
            return
        self.held = 0
        # Permits are told of again instead, as is what was taken while Redis was away.
        if self.pace_s and self.until > -math.inf:
            self.term += self.out > 0
            self.out = 0

    def _balance(self, now: float) -> int:
        """Return what is left or, below zero, owed."""
        heard = self._heard
        if heard is None:
            return self.burst
        gained = int((now - self.heard_at) * self._pace_s())
        return heard.left + gained + self.held - self.extra

    def _pace_s(self) -> float:
        local = self._local
        if local is None:
            return self.pace_s
        return self.pace_s * self.limit.period_us / local.period_us if local.period_us else 0.0

    def _take_in(self, now: float, ask: Ask, grant: Grant) -> None:
        self.held += grant.units
        self._told += grant.units
        self.extra -= ask.extra
        self._heard, self.heard_at = grant, now
        if self.held and self.extra:
            from_held = min(self.held, self.extra)
            self.held -= from_held
            self.extra -= from_held
        if ask.wanted:
            self._count_denial(now, ask, grant)

    def _count_denial(self, now: float, ask: Ask, grant: Grant) -> None:
        """Be dry once nothing was granted and nothing is given back any more."""
        if grant.units:
            self._dry_until = self._denied_at = -math.inf
            return
        if now - self._denied_at >= GIVE_BACK_S:
            self._denied_since = now
        self._denied_at = now
        # While others hold some, they may give it back: who waits asks again.
        if grant.others == 0 or now - self._denied_since >= GIVE_BACK_S:
            self._denied, self._dry_until = ask.least, now + DRY_S
            self._denied_at = -math.inf

    def _target(self, now: float) -> int:
        """Return how many units to keep at hand, from what was spent lately."""
        if self._stated_at == -math.inf:
            self._stated_at = now
        passed_s = max(now - self._stated_at, 1e-6) / HABIT_S
        fading = math.exp(-passed_s)
        self._rate = self._rate * fading + self.used / HABIT_S * (1 - fading) / passed_s
        if self.used:
            self._used_at = now
        self.used, self._stated_at = 0, now
        if now < self._yield_until:
            return 0
        ahead = self._rate * AHEAD_S
        habit = math.ceil(ahead) if ahead >= LEAST_AHEAD else 0
        return min(max(habit, self._kept(now)), self.limit.burst)

    def _kept(self, now: float) -> int:
        """Return how many units to keep at hand between bursts."""
        heard = self._heard
        if heard is None or 2 * heard.left < self.burst or now - self._used_at >= KEPT_FOR_S:
            return 0
        return self.burst // KEPT_PART

    def _since_us(self, now: float) -> int:
        return max(int((now - self.heard_at) * MICRO), 0)


# Who is told that more of a lease should be had.
Hurry = Callable[[Lease], None]
# Units that were taken of a lease, and in which term of it.
Taken = tuple[Lease, int, int]


def spend(leases: Iterable[Lease], units: int, hurry: Hurry) -> None:
    """Spend units of each lease for good."""
    for lease in leases:
        lease.held -= units
        lease.used += units
        if lease.held < lease.low:
            hurry(lease)


def take(leases: Iterable[Lease], units: int, hurry: Hurry) -> list[Taken]:
    """Take units of each lease, of which some may come back; return what to settle."""
    taken = []
    for lease in leases:
        price = units if units < lease.burst else lease.burst
        taken.append((lease, price, lease.term))
        lease.held -= price
        lease.out += price
        lease.used += price
        if lease.held < lease.low:
            hurry(lease)
    return taken


def settle(taken: Iterable[Taken], spent: int, hurry: Hurry) -> None:
    """End what `take` began: the rest comes back, what is missing is owed."""
    for lease, units, term in taken:
        if spent <= units and term == lease.term:
            lease.out -= units
            lease.held += units - spent
        else:
            lease.overspend(units, spent, term)
            if lease.extra:
                hurry(lease)


def _share(limit: Limit, workers: int) -> Bucket:
    """Return an equal share of a limit: as many units at least as one request needs."""
    burst = max(limit.burst // workers, 1)
    if limit.period_us == 0:
        return Bucket(burst, 0, burst)
    return Bucket(limit.most, limit.period_us * workers, burst)

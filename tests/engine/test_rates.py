"""No interleaving of workers, crashes and clocks lets more pass than a limit allows."""

import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from routing.engine.rate_lease import Lease, Taken, settle, spend, take
from routing.engine.rates import MINUTE_US, Ask, Bucket, Grant, Limit

START_US = 1_790_000_000_000_000


def nobody(lease: Lease) -> None:
    """Nobody leases more by himself: the steps say when."""


def minute(most: int, name: str = "requests_per_minute") -> Limit:
    return Limit(of="key", owner="ci", name=name, most=most)


@dataclass
class Worker:
    """A lease with a clock of its own, and what it waits to hear."""

    name: str
    lease: Lease
    offset_s: float
    drift: float
    unheard: list[tuple[float, Ask, Grant]] = field(default_factory=list)
    under_way: list[tuple[int, list[Taken]]] = field(default_factory=list)  # and when

    def clock(self, now_us: int) -> float:
        return self.offset_s + (now_us - START_US) / 1e6 * self.drift


class Fleet:
    """Workers around one bucket, whose talk may be late or lost."""

    def __init__(self, limit: Limit, clocks: list[tuple[float, float]]) -> None:
        self.limit, self.now_us = limit, START_US
        self.bucket = Bucket(limit.most, limit.period_us, limit.burst)
        self.spent: list[tuple[int, int]] = []  # (when, units)
        self.workers = [self._born(i, *clock) for i, clock in enumerate(clocks)]
        self._births = len(clocks)

    def _born(self, number: int, offset_s: float, drift: float) -> Worker:
        name = f"w{number}"
        return Worker(name, Lease(self.limit, name), offset_s, drift)

    def step(self, what: str, who: int, units: int) -> None:
        worker = self.workers[who % len(self.workers)]
        now = worker.clock(self.now_us)
        getattr(self, what)(worker, now, units)

    @property
    def most_at_once(self) -> int:
        return 1 if self.limit.unit != "tokens" else max(self.limit.most // 4, 1)

    def serve(self, worker: Worker, now: float, units: int) -> None:
        """Spend what is held; where that is too little, ask, and spend what is heard at once."""
        if not worker.lease.has(units, now):
            self.ask(worker, now, units)
            self.hear(worker, now, units)
        if worker.lease.has(units, now):
            spend([worker.lease], units, nobody)
            self.spent.append((self.now_us, units))

    def binge(self, worker: Worker, now: float, units: int) -> None:
        """Spend whatever anybody can have, at once; begun with what somebody has held longest."""
        for one in (*self.workers, *self.workers):
            clock, before = one.clock(self.now_us), -1
            while before < len(self.spent) < 3000:
                before = len(self.spent)
                self.serve(one, clock, units)

    def take(self, worker: Worker, now: float, units: int) -> None:
        if worker.lease.has(units, now):
            worker.under_way.append((self.now_us, take([worker.lease], units, nobody)))

    def settle(self, worker: Worker, now: float, units: int) -> None:
        if worker.under_way:
            at_us, taken = worker.under_way.pop()
            used = min(units - 1, taken[0][1])
            settle(taken, used, nobody)
            self.spent.append((at_us, used))

    def ask(self, worker: Worker, now: float, units: int) -> None:
        worker.lease.waiting = [units]
        ask = worker.lease.state(now)
        grant = self.bucket.ask(self.now_us, ask, len(self.workers))
        worker.unheard.append((now, ask, grant))
        worker.lease.waiting = []

    def tell(self, worker: Worker, now: float, units: int) -> None:
        ask = worker.lease.state(now)
        worker.unheard.append((now, ask, self.bucket.ask(self.now_us, ask, len(self.workers))))

    def twice(self, worker: Worker, now: float, units: int) -> None:
        """A word whose answer was lost is said again, and heard once."""
        ask = worker.lease.state(now)
        self.bucket.ask(self.now_us, ask, len(self.workers))
        worker.unheard.append((now, ask, self.bucket.ask(self.now_us, ask, len(self.workers))))

    def hear(self, worker: Worker, now: float, units: int) -> None:
        for asked_at, ask, grant in worker.unheard:
            worker.lease.hear(now, asked_at, ask, grant)
        worker.unheard.clear()

    def lose_word(self, worker: Worker, now: float, units: int) -> None:
        worker.unheard.clear()

    def give_way(self, worker: Worker, now: float, units: int) -> None:
        worker.lease.give_way(now)

    def crash(self, worker: Worker, now: float, units: int) -> None:
        """Whatever was under way was spent; another worker begins with nothing."""
        self.spent += [(at_us, taken[0][1]) for at_us, taken in worker.under_way]
        place = self.workers.index(worker)
        self.workers[place] = self._born(self._births, worker.offset_s, worker.drift)
        self._births += 1

    def wait(self, worker: Worker, now: float, units: int) -> None:
        """Let about as much come in as was asked for."""
        self.now_us += units * self.limit.period_us // self.limit.most

    def pause(self, worker: Worker, now: float, units: int) -> None:
        """Let a part of a lease's time pass, or all of it."""
        self.now_us += units * 300_000 // self.most_at_once

    def sleep(self, worker: Worker, now: float, units: int) -> None:
        self.now_us += self.limit.period_us

    def check(self) -> None:
        """Hold every window between two moments against what it may hold, in exact numbers."""
        limit, units_at = self.limit, Counter[int]()
        for at_us, units in self.spent:
            units_at[at_us] += units
        # In micro-periods: spending less gain since the least it ever was before.
        balance = least = 0
        before_us = START_US
        for at_us in sorted(units_at):
            balance -= limit.most * (at_us - before_us)
            before_us = at_us
            least = min(least, balance)
            balance += units_at[at_us] * limit.period_us
            assert balance - least <= limit.burst * limit.period_us


STEPS = {
    "serve": 30, "take": 10, "settle": 8, "ask": 8, "hear": 8, "tell": 4, "twice": 2,
    "lose_word": 2, "give_way": 1, "crash": 1, "wait": 4, "pause": 8, "sleep": 1,
    "binge": 1,
}  # fmt: skip
clocks = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.95, 1.05)), min_size=1, max_size=4)


def drive(fleet: Fleet, seed: int, steps: int, without: tuple[str, ...] = ()) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable
    weights = {what: weight for what, weight in STEPS.items() if what not in without}
    for what in chance.choices(list(weights), list(weights.values()), k=steps):
        fleet.step(what, chance.randrange(4), chance.randint(1, fleet.most_at_once))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([1, 3, 10, 60, 600]),
    st.sampled_from(["requests_per_minute", "tokens_per_minute", "tokens_per_day"]),
    clocks,
    st.integers(0, 2**32),
)
def test_no_window_holds_more_than_limit_and_burst(
    most: int, name: str, clocks: list[tuple[float, float]], seed: int
) -> None:
    fleet = Fleet(minute(most, name), clocks)
    drive(fleet, seed, 300)
    fleet.check()


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 8), clocks, st.integers(0, 2**32))
def test_permits_out_are_never_more_than_the_limit(
    most: int, clocks: list[tuple[float, float]], seed: int
) -> None:
    fleet = Fleet(minute(most, "concurrent_streams"), clocks)
    chance = random.Random(seed)  # noqa: S311 - repeatable
    for _ in range(40):
        # Who is held up for longer than a lease lasts cannot call its streams back.
        drive(fleet, chance.getrandbits(32), 10, ("serve", "binge", "crash", "pause", "sleep"))
        assert sum(len(worker.under_way) for worker in fleet.workers) <= most
        assert fleet.bucket.leased <= most


def test_simulated_fleets_do_spend_what_there_is() -> None:
    """The properties above would hold of a fleet that spends nothing, too."""
    fleet = Fleet(minute(60), [(0.0, 1.0), (5.0, 1.0)])
    drive(fleet, 1, 4000)
    passed_us = fleet.now_us - START_US
    there_was = 60 + 60 * passed_us / MINUTE_US
    assert sum(units for _, units in fleet.spent) > there_was / 4

"""Many workers' breakers over a network that delays, drops, doubles and reorders their news."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routing.engine.breaker import Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState
WORKERS = 3
# No claim outlives its worker's call in this model: calls end within it.
CLAIM_S = 130.0


@dataclass(frozen=True)
class Told:
    """A standing, as news carry it: Redis joins those it is told with the one it has."""

    generation: float = 0.0
    open_until: float | None = None
    openings: int = 0

    def joined(self, other: "Told") -> "Told":
        if self.generation != other.generation:
            return max(self, other, key=lambda t: t.generation)
        untils = [t.open_until for t in (self, other) if t.open_until is not None]
        openings = max(self.openings, other.openings)
        return Told(self.generation, max(untils, default=None), openings)


@dataclass
class Worker:
    breaker: Breaker = field(default_factory=Breaker)
    inbox: list[Told] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)  # when those under way were begun
    probe: float | None = None  # when its claimed one was begun
    unclaimed: float | None = None  # the same of one begun while Redis was away
    outbox: list[Told] = field(default_factory=list)


class Fleet(RuleBasedStateMachine):
    """Whatever happens to the news: one probe at a time, and everybody ends up equal."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.workers = [Worker() for _ in range(WORKERS)]
        self.known = Told()  # Redis
        self.claimed: tuple[int, float] | None = None  # by whom, until when
        self.up = True

    @rule(seconds=st.floats(0.01, 20) | st.floats(100, 400))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(n=st.integers(0, WORKERS - 1))
    def call(self, n: int) -> None:
        self.now += 0.001
        worker = self.workers[n]
        if not worker.breaker.begin(self.now):
            return
        if worker.breaker.state is CLOSED or self._claims(n, worker):
            worker.calls.append(self.now)

    @rule()
    def redis_goes_or_comes_back(self) -> None:
        self.up = not self.up
        if self.up:
            for worker in self.workers:
                self._hear(worker, self.known)
                while worker.outbox:
                    self._publish(worker.outbox.pop(0))

    def _claims(self, n: int, worker: Worker) -> bool:
        if not self.up:
            assert worker.probe is None or self.now - worker.probe >= CLAIM_S
            assert worker.unclaimed is None or self.now - worker.unclaimed >= CLAIM_S
            worker.unclaimed = self.now
            worker.breaker.when_probe_ends(self.now, lambda: setattr(worker, "unclaimed", None))
            return True
        breaker, mine = worker.breaker, worker.breaker.generation
        missed = self.known.generation > mine or (
            self.known.generation == mine
            and self.known.open_until is not None
            and self.known.open_until > self.now
        )
        if missed or (self.claimed is not None and self.claimed[1] > self.now):
            breaker.abandon(self.now)
            self._hear(worker, self.known)
            if breaker.state is CLOSED:
                return True
            breaker.hold(self.now + 1)
            return False
        others = [w for w in self.workers if w.probe is not None]
        assert not [w for w in others if self.now - (w.probe or 0) < CLAIM_S], "two probes at once"
        self.claimed = (n, self.now + CLAIM_S)
        worker.probe = self.now
        breaker.when_probe_ends(self.now, lambda: self._ended(n))
        return True

    def _ended(self, n: int) -> None:
        self.workers[n].probe = None

    @rule(n=st.integers(0, WORKERS - 1), outcome=st.sampled_from(("answer", "fault", "leave")))
    def end(self, n: int, outcome: str) -> None:
        worker = self.workers[n]
        if not worker.calls:
            return
        breaker, began = worker.breaker, worker.calls.pop(0)
        changed = False
        if outcome == "answer":
            changed = breaker.succeed(self.now, began=began)
        elif outcome == "fault":
            changed = breaker.fail(self.now, began=began)
        else:
            breaker.abandon(began)
        if changed:
            self._tell(worker)
        if self.up and worker.probe is None and self.claimed is not None and self.claimed[0] == n:
            self.claimed = None

    @rule(n=st.integers(0, WORKERS - 1))
    def crowd_of_faults(self, n: int) -> None:
        """What opens a closed breaker: five failures in a row."""
        worker = self.workers[n]
        for _ in range(5):
            if worker.breaker.state is CLOSED:
                self.now += 0.001
                worker.breaker.begin(self.now)
                if worker.breaker.fail(self.now, began=self.now):
                    self._tell(worker)

    @rule(n=st.integers(0, WORKERS - 1))
    def see_the_upstream_well_again(self, n: int) -> None:
        worker = self.workers[n]
        if worker.breaker.ripen(self.now, self.now):
            assert worker.breaker.allows(self.now)
            self._tell(worker)

    @rule(n=st.integers(0, WORKERS - 1))
    def have_nobody_else_to_ask(self, n: int) -> None:
        worker = self.workers[n]
        if worker.breaker.hasten(self.now):
            assert worker.breaker.allows(self.now)
            self._tell(worker)

    @precondition(lambda self: self.up)
    @rule()
    def reset(self) -> None:
        """An operator closes it everywhere: what was a probe is a call like any other."""
        self._publish(Told(self.now))
        self.claimed = None
        for worker in self.workers:
            worker.probe = None

    @precondition(lambda self: any(w.inbox for w in self.workers))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """Any message, in any order, once or twice, or never."""
        worker = data.draw(st.sampled_from([w for w in self.workers if w.inbox]))
        told = data.draw(st.sampled_from(worker.inbox))
        fate = data.draw(st.sampled_from(("once", "twice", "dropped")))
        if fate != "dropped":
            self._hear(worker, told)
        if fate != "twice":
            worker.inbox.remove(told)

    def _tell(self, worker: Worker) -> None:
        breaker = worker.breaker
        if breaker.state is CLOSED:
            breaker.generation = max(breaker.generation, self.now)
        until = None if breaker.state is CLOSED else breaker.open_until
        told = Told(breaker.generation, until, breaker.openings)
        if self.up:
            self._publish(told)
        else:
            worker.outbox.append(told)

    def _publish(self, told: Told) -> None:
        self.known = self.known.joined(told)
        for worker in self.workers:
            worker.inbox.append(self.known)

    def _hear(self, worker: Worker, told: Told) -> None:
        breaker = worker.breaker
        generation, until = breaker.generation, breaker.open_until
        breaker.hear(
            self.now,
            generation=told.generation,
            open_until=told.open_until,
            openings=told.openings,
        )
        assert breaker.generation >= generation
        if breaker.generation == generation:
            assert breaker.open_until >= until, "an opening was shortened"

    @precondition(lambda self: self.up)
    @invariant()
    def nobody_is_younger_than_redis(self) -> None:
        assert all(w.breaker.generation <= self.known.generation for w in self.workers)

    @precondition(lambda self: self.up)
    @invariant()
    def the_last_news_make_all_equal(self) -> None:
        copies = [_copy(worker.breaker) for worker in self.workers]
        for breaker in copies:
            breaker.hear(
                self.now,
                generation=self.known.generation,
                open_until=self.known.open_until,
                openings=self.known.openings,
            )
        assert len({(b.state is CLOSED, b.open_until, b.openings) for b in copies}) == 1


def _copy(breaker: Breaker) -> Breaker:
    copy = Breaker()
    for name in ("state", "generation", "open_until", "openings"):
        setattr(copy, name, getattr(breaker, name))
    return copy


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

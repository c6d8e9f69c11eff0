"""One worker's places at one endpoint: how many it holds, uses and wants. Pure.

Redis shares an endpoint's limit out among the workers (`routing.coordination.slots`); between two
answers of Redis a worker takes and gives its places here, without asking anybody.
"""

from routing.engine.concurrency import DOUBLE_EVERY_S, MOST, Ceiling, Outcome, Signals, start_of

# Workers that share fewer places than they are use one this long in turn: a turn costs Redis a
# round trip, so a place must not change hands with every call of a fast upstream.
TURN_S = 0.02
# Places that nobody used for this long are for others.
IDLE_S = 2.0
LEAST_AHEAD = 2


class Slots:
    """What this worker may do at one endpoint."""

    __slots__ = (
        "_fixed",
        "_peak",
        "_polled_at",
        "_used_at",
        "_voted_at",
        "ceiling",
        "degraded",
        "endpoint",
        "hungry",
        "in_use",
        "leased",
        "shared",
        "signals",
        "waiting",
        "workers",
        "stop_at",
        "cap",
        "yield_at",
    )

    def __init__(self, endpoint: str, provider: str, fixed: int | None, *, shared: bool) -> None:
        self.endpoint = endpoint
        self.shared = shared  # False: this worker is the only one there is
        self.degraded = False  # Redis is away: an equal share of what was last known
        self.ceiling = Ceiling(float(fixed or start_of(provider)))
        self.signals = Signals()
        self.leased = 0 if shared else self.ceiling.whole
        self.in_use = 0
        self.waiting = 0  # requests in this worker's queue
        self.workers = 1
        self.hungry = False  # another worker has fewer places than are due to it
        self.cap = MOST  # of what is leased, what may be used while others are short
        self.yield_at = float("inf")  # when this worker's turn at too few places is over
        self.stop_at = float("inf")  # from then on nothing begins: a turn or a lease is over
        self._fixed = fixed
        self._peak = 0
        self._used_at = float("-inf")
        self._voted_at = self._polled_at = float("-inf")

    @property
    def limit(self) -> int:
        """Return how many calls the endpoint bears, from all workers together."""
        return self.ceiling.whole

    @property
    def places(self) -> int:
        """Return how many calls at once this worker may count on: what it holds, or its share."""
        return max(self.leased, self.ceiling.whole // max(self.workers, 1), 1)

    @property
    def fixed(self) -> int:
        return self._fixed or 0

    def free(self, now: float) -> int:
        """Return how many calls may begin at `now` without asking anybody."""
        if now >= self.stop_at:
            return 0
        leased, cap = self.leased, self.cap
        return (leased if leased < cap else cap) - self.in_use

    def take(self, now: float) -> None:
        self.in_use += 1
        self._used_at = now
        if self.in_use > self._peak:
            self._peak = self.in_use

    def begun(self, offering: str, ttft_ms: float) -> None:
        """Note that a call is answered; its place stays taken."""
        if self._fixed:
            return
        if self.in_use >= self.leased:
            self.signals.saturated = True
        self.signals.begun(offering, ttft_ms)

    @property
    def settled(self) -> bool:
        """Return whether it is known how much the endpoint bears."""
        return bool(self._fixed) or self.ceiling.settled

    def give(self, now: float, offering: str, outcome: Outcome | None) -> None:
        """End a call; None says nothing about the endpoint."""
        if self.in_use >= self.leased:
            self.signals.saturated = True
        self.in_use -= 1
        self._used_at = now
        if outcome is not None and not self._fixed:
            self.signals.see(offering, outcome)

    def ballot(self, now: float) -> int:
        """Return this worker's vote on the limit; a few answers alone say nothing."""
        if self._fixed or now - self._polled_at < DOUBLE_EVERY_S:
            return 0
        self._polled_at = now
        return self.signals.vote()

    @property
    def urgent(self) -> bool:
        """Return True if asking Redis soon changes something."""
        if self.waiting > 0 and self.in_use >= self.leased:
            return True
        return self.hungry and self.in_use < self.leased and self.leased > self.cap

    def due(self, now: float, every_s: float) -> bool:
        """Return True once every `every_s`, for what need not happen at each call."""
        if now - self._voted_at < every_s:
            return False
        self._voted_at = now
        return True

    def wanted(self, now: float) -> int:
        """Return how many places to hold: what is used and waited for, and some ahead."""
        demand = self.in_use + self.waiting
        if demand == 0 and now - self._used_at >= IDLE_S:
            self._peak = 0
            return 0
        self._peak = max(demand, self._peak)
        if self.ceiling.whole <= self.workers:
            # Too few to have any ahead; one that nobody waits for stays here.
            return demand if self.hungry else max(demand, min(self.leased, 1))
        return max(demand, self._peak + max(LEAST_AHEAD, self._peak // 2))

    def calm(self) -> None:
        """Forget half of an old peak; called about once a second."""
        self._peak = max(self.in_use + self.waiting, self._peak // 2)

    def adapt_alone(self, now: float) -> None:
        """Apply the votes here: nobody shares the endpoint, or nobody can be asked."""
        self.ceiling.vote(self.ballot(now), now)
        self.leased = max(1, self.ceiling.whole // max(self.workers, 1))

    def offer(self, now: float) -> int:
        """Give up what others need more, and return what is kept.

        Called before Redis is told: from here on what was given up is not used any more.
        """
        target = 0 if now >= self.yield_at else min(self.wanted(now), self.cap)
        self.leased = min(self.leased, max(self.in_use, target))
        return self.leased

    def hear(
        self,
        now: float,
        *,
        leased: int,
        limit: float,
        workers: int,
        hungry: int,
        until: float,
        settled: bool = False,
    ) -> None:
        """Take in what Redis granted; the lease ends at `until` unless it is renewed."""
        self.degraded = False
        self.leased, self.workers = leased, workers
        self.ceiling.limit, self.ceiling.settled = limit, settled
        self.hungry = hungry > 0
        fair = int(limit) // workers
        self.cap = max(fair, 1) if self.hungry else MOST
        if not (self.hungry and fair == 0):
            self.yield_at = float("inf")
        elif self.yield_at == float("inf"):
            self.yield_at = now + TURN_S
        self.stop_at = min(until, self.yield_at)

    def lose_redis(self, now: float) -> None:
        """Go on with an equal share: all workers do, so together they keep to the limit."""
        self.degraded, self.hungry, self.cap = True, False, MOST
        self.yield_at = self.stop_at = float("inf")
        self.adapt_alone(now)

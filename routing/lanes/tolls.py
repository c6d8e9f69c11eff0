"""What a request must have of its caller's limits before anything else happens, and settles after.

Requests count once and for good. Tokens are taken by estimate and settled by what was used; a
request that used more leaves a debt, which waiting repays. Streams are permits that come back.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from routing.engine.errors import RateLimited
from routing.engine.rates import Limit, limits_of

if TYPE_CHECKING:
    from routing.coordination.rates import RateKeeper
    from routing.engine.catalog import PolicyDocument
    from routing.engine.rate_lease import Lease

# A request whose lease is dry waits for Redis, or for what other workers hold, no longer than this.
LONGEST_WAIT_S = 0.05
# Redis that has said nothing for so long is taken to be away.
SILENCE_S = 0.25


class Passage:
    """The leases of the limits that hold for one caller."""

    __slots__ = ("policy", "requests", "streams", "timed", "tokens")

    def __init__(self, leases: list["Lease"]) -> None:
        self.requests = tuple(one for one in leases if one.limit.unit == "requests")
        self.tokens = tuple(one for one in leases if one.limit.unit == "tokens")
        self.streams = tuple(one for one in leases if one.limit.unit == "streams")
        self.timed = self.requests + self.tokens
        # As RateLimit-Policy tells it: most;w=seconds. Permits have no window.
        self.policy = ", ".join(
            f"{one.limit.most};w={one.limit.period_us // 1_000_000}"
            for one in leases
            if one.limit.period_us
        )


class Toll:
    """What one request has taken; `settle` ends it, once."""

    __slots__ = ("_hurry", "_streams", "_tokens")

    def __init__(
        self,
        tokens: list[tuple["Lease", int]],
        streams: tuple["Lease", ...],
        hurry: Callable[["Lease"], None],
    ) -> None:
        self._tokens, self._streams, self._hurry = tokens, streams, hurry

    def settle(self, tokens: int) -> None:
        """Give back what was not used, and owe what was used beyond the estimate."""
        for lease, taken in self._tokens:
            lease.settle(taken, tokens)
            if lease.extra:
                self._hurry(lease)
        for lease in self._streams:
            lease.settle(1, 0)


class Tolls:
    """One worker's tolls. Who has no limits pays nothing, not even a look at the clock."""

    def __init__(self, keeper: "RateKeeper", clock: Callable[[], float]) -> None:
        self._keeper, self._clock = keeper, clock
        self._limits: dict[tuple[str, str], tuple[Limit, ...]] = {}
        self._passages: dict[tuple[str, str], Passage] = {}
        self._woken: dict[str, set[asyncio.Event]] = {}
        keeper.changed = self._changed

    @property
    def degraded(self) -> bool:
        """Return True while limits are kept by each worker's share only."""
        return self._keeper.degraded

    def adopt(self, document: "PolicyDocument") -> None:
        """Heed the limits of a new policy; requests under way settle with what they took."""
        of_tenant = {t.name: tuple(limits_of("tenant", t.name, t)) for t in document.tenants}
        limits = {
            (key.tenant, key.name): (
                *limits_of("key", key.name, key),
                *of_tenant.get(key.tenant, ()),
            )
            for key in document.keys
        }
        self._limits = {who: some for who, some in limits.items() if some}
        self._passages.clear()
        self._keeper.keep_only(one for some in self._limits.values() for one in some)

    def passage(self, tenant: str, key: str) -> Passage | None:
        """Return what a caller passes through; None where no limit holds for it."""
        if not self._limits:
            return None
        who = (tenant, key)
        found = self._passages.get(who)
        if found is None and (limits := self._limits.get(who)):
            found = Passage([self._keeper.lease(limit) for limit in limits])
            self._passages[who] = found
        return found

    async def enter(self, tenant: str, key: str, tokens: int, *, stream: bool) -> Toll | None:
        """Take what one request needs, `tokens` by estimate; None where nothing is limited.

        Raises RateLimited. Waits only where a lease is dry.
        """
        passage = self.passage(tenant, key)
        if passage is None:
            return None
        if not _ready(passage, tokens, self._clock(), stream=stream):
            await self._wait(passage, tokens, stream=stream)
        return self._take(passage, tokens, stream=stream)

    def _short(
        self, passage: Passage, tokens: int, now: float, *, stream: bool
    ) -> list[tuple["Lease", int]]:
        """Return the leases that hold too little, with how much is needed of each."""
        short = [(one, 1) for one in passage.requests if one.held < 1 or now >= one.until]
        if tokens:
            for one in passage.tokens:
                price = one.price(tokens)
                if one.held < price or now >= one.until:
                    short.append((one, price))
        if stream:
            short += [(one, 1) for one in passage.streams if one.held < 1 or now >= one.until]
        return short

    def _take(self, passage: Passage, tokens: int, *, stream: bool) -> Toll:
        for lease in passage.requests:
            if lease.spend(1):
                self._keeper.hurry(lease)
        taken = [(one, one.price(tokens)) for one in passage.tokens] if tokens else []
        permits = passage.streams if stream else ()
        for lease, price in taken:
            if lease.take(price):
                self._keeper.hurry(lease)
        for lease in permits:
            if lease.take(1):
                self._keeper.hurry(lease)
        return Toll(taken, permits, self._keeper.hurry)

    async def _wait(self, passage: Passage, tokens: int, *, stream: bool) -> None:
        """Return once every lease holds enough; raises RateLimited when that is not soon."""
        began = now = self._clock()
        while short := self._short(passage, tokens, now, stream=stream):
            for lease, units in short:
                if now < lease.dry_until:
                    raise self._refusal(lease, units, now)
            silent_s = self._keeper.silent_s()
            if silent_s >= SILENCE_S and now - began >= LONGEST_WAIT_S:
                self._keeper.lose()
                began, silent_s = now, 0.0
            # Redis that has not said a word yet is waited for longer.
            patience_s = SILENCE_S if silent_s >= now - began > 0 else LONGEST_WAIT_S
            left_s = began + patience_s - now
            if left_s <= 0:
                lease, units = short[0]
                lease.dry_until = now + LONGEST_WAIT_S
                raise self._refusal(lease, units, now)
            await self._asked(short, left_s)
            now = self._clock()

    async def _asked(self, short: list[tuple["Lease", int]], left_s: float) -> None:
        """Ask for what is short, and wait for news of any of it."""
        news = asyncio.Event()
        for lease, units in short:
            lease.waiting.append(units)
            self._woken.setdefault(lease.limit.id, set()).add(news)
            self._keeper.hurry(lease)
        try:
            async with asyncio.timeout(left_s):
                if not self._keeper.degraded:
                    await news.wait()  # without Redis, the share has answered at once
        except TimeoutError:
            pass
        finally:
            for lease, units in short:
                lease.waiting.remove(units)
                self._woken[lease.limit.id].discard(news)

    def _changed(self, lease: "Lease") -> None:
        for news in self._woken.get(lease.limit.id, ()):
            news.set()

    def _refusal(self, lease: "Lease", units: int, now: float) -> RateLimited:
        return RateLimited(lease.limit, max(lease.wait_s(now, units), 0.001))


def _ready(passage: Passage, tokens: int, now: float, *, stream: bool) -> bool:
    """Return True if every lease holds enough: what nearly every request meets."""
    for lease in passage.requests:
        if lease.held < 1 or now >= lease.until:
            return False
    if tokens:
        for lease in passage.tokens:
            if lease.held < lease.price(tokens) or now >= lease.until:
                return False
    if stream:
        for lease in passage.streams:
            if lease.held < 1 or now >= lease.until:
                return False
    return True

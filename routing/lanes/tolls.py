"""What a request must have of its caller's limits before anything else happens, and settles after.

Requests count once and for good. Tokens are taken by estimate and settled by what was used; a
request that used more leaves a debt, which waiting repays. Streams are permits that come back.
"""

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from routing.engine.errors import RateLimited
from routing.engine.rate_book import Book, booked
from routing.engine.rate_lease import settle, spend, take
from routing.engine.rates import Limit, limits_of
from routing.lanes.rate_headers import Told

if TYPE_CHECKING:
    from routing.coordination.rates import RateKeeper
    from routing.engine.catalog import PolicyDocument
    from routing.engine.rate_lease import Hurry, Lease, Taken

# A request that is short of units looks so often whether Redis still answers.
LOOK_S = 0.05
# Units are taken ahead for so long at most.
BOOK_S = 0.05
# Redis that has said nothing for so long is taken to be away.
SILENCE_S = 0.5
# A request gets its units within this, or what is left is too little for it.
LONGEST_WAIT_S = 1.0


class Passage:
    """The leases of the limits that hold for one caller."""

    __slots__ = (
        "book", "native", "no_book_until", "openai", "policy", "requests", "streams", "timed",
        "tokens", "until",
    )  # fmt: skip

    def __init__(self, leases: list["Lease"]) -> None:
        self.requests = tuple(one for one in leases if one.limit.unit == "requests")
        self.tokens = tuple(one for one in leases if one.limit.unit == "tokens")
        self.streams = tuple(one for one in leases if one.limit.unit == "streams")
        self.timed = self.requests + self.tokens
        self.book: Book | None = None
        self.no_book_until = -math.inf
        self.until = -math.inf  # when one of the timed ones may lapse; looked at now and then
        # What answers tell of them, on our own lanes and on OpenAI's.
        self.native, self.openai = Told(), Told()
        # As RateLimit-Policy tells it: most;w=seconds. Permits have no window.
        self.policy = ", ".join(
            f"{one.limit.most};w={one.limit.period_us // 1_000_000}"
            for one in leases
            if one.limit.period_us
        )

    def is_open(self, tokens: int, now: float, *, stream: bool) -> bool:
        """Return True if every lease holds enough: what nearly every request meets."""
        if now >= self.until and not self._renewed(now):
            return False
        for lease in self.requests:
            if lease.held < 1:
                return False
        if tokens:
            for lease in self.tokens:
                if lease.held < tokens and lease.held < lease.price(tokens):
                    return False
        return not stream or all(lease.has(1, now) for lease in self.streams)

    def left(self, lease: "Lease", now: float) -> int:
        """Return about how many units of a limit are left to the fleet, with what is booked."""
        left, book = lease.left(now), self.book
        if book is None:
            return left
        ahead = book.requests if lease.unit == "requests" else book.tokens
        return left + ahead if ahead > 0 else left

    def book_ahead(self, tokens: int, now: float, hurry: "Hurry") -> bool:
        """Take units ahead for the next requests, where there are plenty; return whether it did."""
        self.no_book_until = now + BOOK_S
        if not self.timed or not self._renewed(now):
            return False
        self.book = booked(self.requests, self.tokens, tokens, self.until, hurry)
        return self.book is not None

    def close_book(self) -> None:
        if self.book is not None:
            self.book.close()
            self.book = None

    def _renewed(self, now: float) -> bool:
        """Look when the first lease lapses; return False if one has."""
        lapse = min([lease.until for lease in self.timed], default=math.inf)
        self.until = min(lapse, now + LOOK_S)
        return now < lapse


class Toll:
    """What one request has taken; `settle` ends it, once."""

    __slots__ = ("_hurry", "_permits", "_tokens")

    def __init__(self, tokens: "list[Taken]", permits: "list[Taken]", hurry: "Hurry") -> None:
        self._tokens, self._permits, self._hurry = tokens, permits, hurry

    def settle(self, taken: int, spent: int) -> None:
        """Give back what was not spent of the estimate that was taken, and owe what is beyond."""
        settle(self._tokens, spent, self._hurry)
        if self._permits:
            settle(self._permits, 0, self._hurry)


class Tolls:
    """One worker's tolls. Who has no limits pays nothing, not even a look at the clock."""

    def __init__(self, keeper: "RateKeeper", clock: Callable[[], float]) -> None:
        self._keeper, self._clock = keeper, clock
        self._limits: dict[tuple[str, str], tuple[Limit, ...]] = {}
        self._passages: dict[tuple[str, str], Passage] = {}
        self._booked: set[Passage] = set()  # whose book may be open
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
        self._close_books()
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

    async def enter(
        self, tenant: str, key: str, tokens: int, *, stream: bool
    ) -> Toll | Book | None:
        """Take what one request needs, `tokens` by estimate; None where nothing is limited.

        What it returns is to be settled, once, with the estimate and with what was used.
        Raises RateLimited. Waits only where a lease is dry.
        """
        passage = self.passage(tenant, key)
        if passage is None:
            return None
        now, book, hurry = self._clock(), passage.book, self._keeper.hurry
        permits = stream and passage.streams
        if book is not None and not permits:
            if book.take(tokens, now):
                return book
            passage.close_book()
        if not passage.is_open(tokens, now, stream=stream):
            await self._wait(passage, tokens, stream=stream)
        elif now >= passage.no_book_until and not permits:
            self._book_ahead(passage, tokens, now)
        spend(passage.requests, 1, hurry)
        taken = take(passage.tokens, tokens, hurry) if tokens else []
        return Toll(taken, take(passage.streams, 1, hurry) if stream else [], hurry)

    def _book_ahead(self, passage: Passage, tokens: int, now: float) -> None:
        if passage.book_ahead(tokens, now, self._keeper.hurry):
            self._booked.add(passage)
            asyncio.get_running_loop().call_later(BOOK_S, passage.close_book)

    def _close_books(self) -> None:
        while self._booked:
            self._booked.pop().close_book()

    def _short(
        self, passage: Passage, tokens: int, now: float, *, stream: bool
    ) -> list[tuple["Lease", int]]:
        """Return the leases that hold too little, with how much is needed of each.

        Whatever was taken ahead is at hand again.
        """
        self._close_books()
        short = [(one, 1) for one in passage.requests if one.held < 1 or now >= one.until]
        if tokens:
            for one in passage.tokens:
                price = one.price(tokens)
                if one.held < price or now >= one.until:
                    short.append((one, price))
        if stream:
            short += [(one, 1) for one in passage.streams if one.held < 1 or now >= one.until]
        return short

    async def _wait(self, passage: Passage, tokens: int, *, stream: bool) -> None:
        """Return once every lease holds enough; raises RateLimited when Redis says it will not.

        A late answer is no refusal: this worker, or Redis, may be held up by a busy machine.
        """
        began = now = self._clock()
        looks = 0
        while short := self._short(passage, tokens, now, stream=stream):
            for lease, units in short:
                if lease.dry(units, now) or _too_late(lease, units, now - began, now):
                    raise self._refusal(lease, units, now)
            # Looked for twice, since what Redis said may lie unread after a pause of this worker.
            looks = looks + 1 if self._keeper.silent_s() >= SILENCE_S else 0
            if looks > 1:
                self._keeper.lose()
            await self._asked(short)
            now = self._clock()

    async def _asked(self, short: list[tuple["Lease", int]]) -> None:
        """Ask for what is short, and wait a little for news of any of it."""
        news = asyncio.Event()
        for lease, units in short:
            lease.waiting.append(units)
            self._woken.setdefault(lease.limit.id, set()).add(news)
            self._keeper.hurry(lease)
        try:
            async with asyncio.timeout(LOOK_S):
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


def _too_late(lease: "Lease", units: int, waited_s: float, now: float) -> bool:
    """Return True if others always were faster: their requests are smaller than what is left."""
    return waited_s >= LONGEST_WAIT_S and lease.left(now) < units

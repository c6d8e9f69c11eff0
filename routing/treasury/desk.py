"""A worker's talk with PostgreSQL about money: slices ahead of need, and back when they idle.

A request spends from memory (`routing.engine.ledger`). Only one that finds too little waits here,
for `PATIENCE_S` at most: PostgreSQL is asked, and where it has nothing left, the other workers are
asked over Redis to give back what they do not use. Without Redis nobody keeps anything ahead.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import psycopg
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from routing.engine.errors import BudgetUnreachable
from routing.engine.ledger import Ledger
from routing.engine.money import MOST_NUSD
from routing.engine.payers import Payers
from routing.engine.purse import Purse
from routing.treasury import statements
from routing.treasury.statements import Connection
from telemetry.redis_names import BUDGETS_CHANNEL

logger = logging.getLogger(__name__)

# PostgreSQL is there, and refuses what it was told: that says nothing of the next statement.
REFUSED = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError)
AWAY = (psycopg.Error, OSError, TimeoutError)
REDIS_AWAY = (RedisError, OSError, TimeoutError)
PATIENCE_S = 0.25
# How often PostgreSQL is asked again while others are giving back.
POLL_S = 0.015
TICK_S = 0.25
KEEP_PACE = 0.7  # of it, each tick
# A slice that nothing was taken from for this long is for others.
IDLE_S = 1.5
# Without Redis nobody can call for it: what is not used goes back at once.
ALONE_IDLE_S = 0.05
# Of one window, slices ahead of need are not asked for more often.
LEAST_GAP_S = 0.02
LEASE_TTL_S = 300
RENEW_S = 60.0
RECONNECT_S = 0.25
REPEAT_S = 60.0  # the same is not logged again before
STATEMENT_S = 2.0
REDIS_TIMEOUT_S = 1.0
CALL_S = 0.05


class Released(Exception):
    """Somebody gave a lease up that this worker holds."""


class Desk:
    """Leases for one worker's ledger; `run` and `listen` go on for ever."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        connect: Callable[[], Awaitable[Connection]],
        redis_url: str,
        spool: str,
        holder: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.ledger = ledger
        self.spool, self.holder = spool, holder
        self._connect, self._redis_url = connect, redis_url
        self._clock, self._wall, self._patience_s = clock, wall, patience_s
        self._connection: Connection | None = None
        self._talking = asyncio.Lock()
        self._redis: redis.asyncio.Redis | None = None
        self._hears = False  # others can call for what is free here
        self._woken = asyncio.Event()
        # By lease: a window may have several, of which one is new requests'.
        self._due: dict[bytes, Purse] = {}
        self._unsure: set[bytes] = set()  # whose lease may be other than is known here
        self._waiting: dict[bytes, list[tuple[int, asyncio.Future[None]]]] = {}
        self._fillers: dict[bytes, asyncio.Task[None]] = {}
        self._away_at = float("-inf")  # when PostgreSQL last did not answer
        self._refused_at = float("-inf")  # when it was last told that PostgreSQL said no
        self._renewed_at = float("-inf")
        ledger.wake = self.wake
        ledger.freed = self._freed

    @property
    def hears(self) -> bool:
        """Return True if other workers can call for what is free here."""
        return self._hears

    def wake(self, purse: Purse) -> None:
        """Have PostgreSQL asked about a purse soon."""
        self._due[purse.lease] = purse
        self._woken.set()

    async def hold(self, payers: Payers, nusd: int) -> Purse | None:
        """Hold `nusd` in every purse; return the one that cannot, or None.

        Raises BudgetUnreachable.
        """
        began = self._clock()
        end = began + self._patience_s
        while (short := self.ledger.take(payers, nusd, self._clock())) is not None:
            if short.lacks(nusd):
                return short
            left_s = end - self._clock()
            if left_s <= 0:
                if short.ordered_at < began or self._away_at >= began or short.room >= nusd:
                    # PostgreSQL said nothing in all that time, or not to the end of it; or what it
                    # gave went to others who waited, and there is more.
                    raise BudgetUnreachable(short.budget.name)
                return short
            await self._changed(short, nusd, left_s)
        return None

    async def run(self) -> None:
        """Keep the purses filled, and give back what idles."""
        try:
            tick_at = self._clock()
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(tick_at - self._clock(), 0.0)):
                        await self._woken.wait()
                self._woken.clear()
                now = self._clock()
                if now >= tick_at:
                    tick_at = now + TICK_S
                    await self._tick(now)
                due, self._due = self._due, {}
                for purse in due.values():
                    await self._tend(purse)
                await asyncio.sleep(0.001)
        finally:
            await self.close()

    async def close(self) -> None:
        """Give back what is free, where that is quickly done, and close the connections."""
        for filler in self._fillers.values():
            filler.cancel()
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(0.5):
                for purse in list(self.ledger.purses.values()):
                    await self._give_back(purse)
        await self._disconnect()
        if self._redis is not None:
            with contextlib.suppress(*REDIS_AWAY):
                await self._redis.aclose()
            self._redis = None

    async def listen(self) -> None:
        """Hear other workers that are short."""
        while True:
            try:
                await self._listen_once()
            except REDIS_AWAY as exc:
                logger.debug("Nobody can call for money that is free here: %s", exc)
            self._hears = False
            await asyncio.sleep(RECONNECT_S)

    # --- a request waits -------------------------------------------------------------------------

    async def _changed(self, purse: Purse, nusd: int, longest_s: float) -> None:
        """Return when there may be more in a purse, or after `longest_s`."""
        key = purse.lease
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (nusd, changed)
        self._waiting.setdefault(key, []).append(entry)
        purse.waiting += 1
        if key not in self._fillers:
            self._fillers[key] = asyncio.create_task(self._fill(purse))
        try:
            await asyncio.wait((changed,), timeout=longest_s)
        finally:
            purse.waiting -= 1
            waiting = self._waiting.get(key, [])
            if entry in waiting:
                waiting.remove(entry)
            changed.cancel()

    async def _fill(self, purse: Purse) -> None:
        """Ask for what is waited for until it is there, or PostgreSQL and the others have none."""
        key = purse.lease
        end, called = self._clock() + self._patience_s * 0.9, False
        try:
            while needs := [nusd for nusd, _ in self._waiting.get(key, ())]:
                least = min(needs) - purse.free
                if least <= 0:
                    self._tell(purse)
                    await asyncio.sleep(0)
                    continue
                granted = await self._ask(purse, least, max(sum(needs) - purse.free, least))
                if granted:
                    end, called = self._clock() + self._patience_s * 0.9, False
                    self._tell(purse)
                    await asyncio.sleep(0)
                    continue
                if granted is not None and self._clock() >= end:
                    purse.short = least
                    self._tell(purse)
                    return
                if granted is not None and not called:
                    called = True
                    await self._call(purse)
                await asyncio.sleep(POLL_S)
        finally:
            self._fillers.pop(key, None)
            if self._waiting.get(key) and purse.short is None:
                # Somebody came while the last one was told.
                self.wake(purse)

    def _tell(self, purse: Purse) -> None:
        for _, changed in self._waiting.pop(purse.lease, []):
            if not changed.done():
                changed.set_result(None)

    def _freed(self, purse: Purse) -> None:
        if purse.lease in self._waiting:
            self._tell(purse)

    async def _ask(self, purse: Purse, least: int, most: int) -> bool | None:
        """Ask PostgreSQL for more; return whether it gave any, None where it does not answer."""
        granted: bool | None = None
        async with self._talk(purse):
            granted = await self._asked(purse, least, min(most, MOST_NUSD))
        return granted

    async def _asked(self, purse: Purse, least: int, most: int) -> bool:
        connection = await self._connected()
        async with asyncio.timeout(STATEMENT_S):
            await self._be_sure(connection, purse)
            if not purse.known:
                await self._tell_window(connection, purse)
            self._unsure.add(purse.lease)
            got = await statements.grant(
                connection,
                purse,
                spool=self.spool,
                holder=self.holder,
                least=least,
                most=most,
                ahead=purse.ahead if self._hears else 0,
                ttl_s=LEASE_TTL_S,
            )
        self._unsure.discard(purse.lease)
        if got is not None and got.granted is None:
            self._give_up(purse)
        purse.ordered_at = self._clock()
        if got is None:
            purse.known = False
            return False
        purse.granted += got.cut
        purse.spent_seen, purse.leased_seen = got.spent, got.leased
        if got.cut:
            purse.short = None
            self.ledger.keep(purse)
        return got.cut > 0

    async def _be_sure(self, connection: Connection, purse: Purse) -> None:
        """Find out what a lease holds after an answer of PostgreSQL's was lost."""
        if purse.lease not in self._unsure:
            return
        granted = await statements.granted(connection, purse)
        if granted is None:
            self._give_up(purse)
        purse.granted = max(granted, purse.charged + purse.held)
        self._unsure.discard(purse.lease)

    def _give_up(self, purse: Purse) -> NoReturn:
        """Somebody gave the lease up: what is under way is charged to it, nothing new is."""
        if purse.lease in self.ledger.purses:
            name = purse.budget.name
            logger.warning("A lease of budget '%s' was released; another one is taken.", name)
            self.ledger.replace(purse)
        raise Released

    # --- in the background -----------------------------------------------------------------------

    async def _tick(self, now: float) -> None:
        ledger = self.ledger
        ledger.gather(now)
        ledger.slow_down(KEEP_PACE)
        idle_s = IDLE_S if self._hears else ALONE_IDLE_S
        for purse in ledger.purses.values():
            if purse.free > 0 and purse.hard and now - purse.used_at > idle_s:
                purse.recalled = True
            if purse.recalled or not purse.known:
                self.wake(purse)
        for purse in ledger.over_for_good(self._wall()):
            await self._give_back(purse)
            if purse.idle and (purse.free <= 0 if purse.hard else purse.known):
                ledger.drop(purse)
        await self._look(now)

    async def _look(self, now: float) -> None:
        """See how the windows stand that are short, or soft; and say that this worker lives."""
        looked = [p for p in self.ledger.purses.values() if p.short is not None or not p.hard]
        renewing = now - self._renewed_at >= RENEW_S and self.ledger.purses
        if not looked and not renewing:
            return
        async with self._talk(None):
            connection = await self._connected()
            async with asyncio.timeout(STATEMENT_S):
                if renewing:
                    await statements.renew(
                        connection, spool=self.spool, holder=self.holder, ttl_s=LEASE_TTL_S
                    )
                    self._renewed_at = now
                    # Who was thought lost, and is not, spends no more of what was freed.
                    mine = dict(self.ledger.purses)
                    for lease in await statements.given_up(connection, list(mine.values())):
                        with contextlib.suppress(Released):
                            self._give_up(mine[lease])
                self._see(looked, await statements.standing(connection, looked))

    def _see(self, purses: list[Purse], rows: dict[bytes, tuple[int, ...]]) -> None:
        self.ledger.gather(self._clock())
        for purse in purses:
            if (row := rows.get(purse.window.id)) is None:
                continue
            limit, purse.spent_seen, purse.leased_seen = row
            room = limit - purse.spent_seen - purse.leased_seen
            if purse.short is not None and room >= purse.short:
                purse.short = None

    async def _tend(self, purse: Purse) -> None:
        key = purse.lease
        if self._waiting.get(key) and key not in self._fillers:
            self._fillers[key] = asyncio.create_task(self._fill(purse))
        if not purse.known:
            await self._describe(purse)
        if purse.recalled:
            purse.recalled = False
            await self._give_back(purse)
        elif self._wants_more(purse) and key not in self._fillers:
            await self._ask(purse, 1, 1)

    def _wants_more(self, purse: Purse) -> bool:
        """Return True if a slice ahead of need is due."""
        if not purse.hard or not self._hears or purse.short is not None:
            return False
        now = self._clock()
        if now - purse.ordered_at < LEAST_GAP_S:
            return False
        # What is taken ahead is not lacking.
        self.ledger.gather(now)
        return purse.free < purse.ahead // 2

    async def _describe(self, purse: Purse) -> None:
        async with self._talk(None):
            connection = await self._connected()
            async with asyncio.timeout(STATEMENT_S):
                await self._tell_window(connection, purse)

    async def _tell_window(self, connection: Connection, purse: Purse) -> None:
        version = purse.version
        await statements.describe(connection, purse)
        # It may have been edited meanwhile.
        purse.known = purse.version == version

    async def _give_back(self, purse: Purse) -> None:
        """Give back all that is free; it is not used any more from here on."""
        if not purse.hard and purse.granted == 0:
            return
        async with self._talk(purse):
            connection = await self._connected()
            async with asyncio.timeout(STATEMENT_S):
                await self._be_sure(connection, purse)
                self.ledger.gather(self._clock())
                if purse.free <= 0:
                    return
                purse.granted = keep = purse.charged + purse.held
                self._unsure.add(purse.lease)
                await statements.give_back(connection, purse, keep)
            self._unsure.discard(purse.lease)

    # --- connections -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _talk(self, purse: Purse | None) -> AsyncIterator[None]:
        """Have PostgreSQL to oneself; where it is away, or refuses, the block ends early."""
        async with self._talking:
            try:
                yield
            except Released:
                pass
            except REFUSED as exc:
                # A fault of ours, or migrations that are not made yet.
                self._refused(exc)
            except AWAY as exc:
                self._lost(purse, exc)
                await self._disconnect()

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            if self._clock() - self._away_at < RECONNECT_S:
                raise OSError("PostgreSQL was away a moment ago")
            self._connection = await self._connect()
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*AWAY):
                await connection.close()

    def _lost(self, purse: Purse | None, exc: BaseException) -> None:
        now = self._clock()
        if now - self._away_at > REPEAT_S:
            logger.warning("Budgets cannot be leased for now: %s", _one_line(exc))
        if now - self._away_at >= RECONNECT_S:
            # Not put off by those who ask meanwhile: they would have nobody ever connect again.
            self._away_at = now
        if purse is not None and not purse.known:
            self.wake(purse)

    def _refused(self, exc: psycopg.Error) -> None:
        now = self._clock()
        if now - self._refused_at > REPEAT_S:
            logger.error("PostgreSQL refuses what is said of budgets: %s", _one_line(exc))
            self._refused_at = now

    async def _call(self, purse: Purse) -> None:
        """Ask the other workers for what they do not use of a window."""
        if self._redis is None:
            self._redis = self._client()
        with contextlib.suppress(*REDIS_AWAY):
            async with asyncio.timeout(CALL_S):
                await self._redis.publish(BUDGETS_CHANNEL, purse.window.id + purse.lease)

    async def _listen_once(self) -> None:
        client = self._client()
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(BUDGETS_CHANNEL)
                self._hears = True
                while True:
                    message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
                    if message is not None:
                        self._hear(message["data"])
        finally:
            self._hears = False
            await client.aclose()

    def _hear(self, data: bytes) -> None:
        purse = self.ledger.of_window(data[:16])
        if purse is None or data[16:] == purse.lease or purse.free <= 0:
            return
        # Two that are short of each other's: the one with the smaller lease is served first.
        if self._waiting.get(purse.lease) and purse.lease < data[16:]:
            return
        purse.recalled = True
        self.wake(purse)

    def _client(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self._redis_url,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            socket_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )


def _one_line(exc: BaseException) -> str:
    """Return an error's text as one line; libpq's have several."""
    return " ".join(str(exc).split())

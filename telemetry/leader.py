"""What one conductor of a fleet does for all: sums, partitions, retention, each model's load."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import psycopg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from telemetry.database import AsyncConnection, connect, one_line
from telemetry.folding import fold
from telemetry.loads import all_loads, refresh
from telemetry.partitions import Retention, ensure_ahead, retire, today
from telemetry.waiting import Backoff, pause

logger = logging.getLogger(__name__)

# Any number will do, as long as nobody else locks it: "orch" in ASCII.
LEADER_LOCK = 0x6F726368
FOLD_EVERY_S = 1.0
LOADS_EVERY_S = 5.0
HOUSEKEEPING_EVERY_S = 300.0
ELECTION_EVERY_S = 5.0

MemoryByModel = Callable[[], dict[str, float]]
Tidy = Callable[[AsyncConnection], Awaitable[object]]


class Leader:
    """Leads while it holds an advisory lock; the lock goes with the connection.

    `memory_by_model` returns the megabytes each loaded model uses, as its endpoints say; `tidy`
    deletes what is long over in tables that are not telemetry's.
    """

    def __init__(
        self,
        redis: Redis,
        memory_by_model: MemoryByModel,
        *,
        retention: Retention,
        tidy: Tidy | None = None,
    ) -> None:
        self._redis = redis
        self._memory_by_model = memory_by_model
        self._retention = retention
        self._tidy = tidy

    async def run(self, stop: asyncio.Event) -> None:
        """Stand for election until `stop` is set, and lead while elected."""
        backoff = Backoff(first_s=0.5)
        while not stop.is_set():
            try:
                connection = await connect("leader")
                try:
                    backoff.succeeded()
                    await self._stand(connection, stop)
                finally:
                    with contextlib.suppress(psycopg.Error):
                        await connection.close()
            except (psycopg.Error, OSError) as exc:
                if backoff.fresh:
                    logger.warning("No leader, PostgreSQL refuses: %s", one_line(exc))
                await pause(stop, backoff.failed())

    async def _stand(self, connection: AsyncConnection, stop: asyncio.Event) -> None:
        while not stop.is_set():
            answer = await connection.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK])
            if (await answer.fetchone() or (False,))[0]:
                logger.info("This conductor leads.")
                await self._lead(connection, stop)
            await pause(stop, ELECTION_EVERY_S)

    async def _lead(self, connection: AsyncConnection, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        housekeeping_at = loads_at = loop.time()
        while not stop.is_set():
            if loop.time() >= housekeeping_at:
                await self.keep_house(connection)
                housekeeping_at = loop.time() + HOUSEKEEPING_EVERY_S
            if loop.time() >= loads_at:
                with contextlib.suppress(RedisError, OSError):
                    loads = await all_loads(self._redis)
                    await refresh(connection, loads, self._memory_by_model())
                loads_at = loop.time() + LOADS_EVERY_S
            await fold(connection)
            await pause(stop, FOLD_EVERY_S)

    async def keep_house(self, connection: AsyncConnection) -> None:
        """Make the coming days' partitions and drop those whose time is over."""
        now = today()
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            await ensure_ahead(connection, now)
        gone = await retire(connection, now, self._retention)
        if gone:
            logger.info("Dropped the requests of %s.", ", ".join(map(str, gone)))
        if self._tidy is not None:
            await self._tidy(connection)

"""The shipper's loop: read the spool, store, release, tell who wants to know."""

import asyncio
import contextlib
import datetime as dt
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import psycopg

from telemetry.database import AsyncConnection, connect, one_line
from telemetry.partitions import DAYS_AHEAD, ensure_day, today
from telemetry.record import RequestRecord
from telemetry.shipper.store import CREATE_INCOMING, Settle, store
from telemetry.spool import SpoolBatch, SpoolReader
from telemetry.spool.inflight import abandoned, holder_of, left_behind, remove
from telemetry.spool.layout import SHIPPER_LOCK, take_lock, worker_directories
from telemetry.waiting import Backoff, pause

logger = logging.getLogger(__name__)

BATCH_RECORDS = 5000
POLL_S = 0.1
DAY_US = 86_400_000_000

# Frees what a dead holder's leases have left.
Bury = Callable[[AsyncConnection, str], Awaitable[None]]
OnShipped = Callable[[Sequence[RequestRecord]], None]


class Shipper:
    """Ships one spool directory; a second shipper of the same directory waits for its turn.

    `on_shipped` gets every batch of records that are in PostgreSQL and were not there before. It is
    called after the commit and must not block.
    """

    def __init__(
        self,
        spool_dir: Path,
        on_shipped: OnShipped,
        *,
        retention_days: int = 30,
        settle: Settle | None = None,
        bury: Bury | None = None,
    ) -> None:
        self._settle, self._bury = settle, bury
        self.spool_dir = spool_dir
        self.on_shipped = on_shipped
        self.retention_days = retention_days
        self._connection: AsyncConnection | None = None
        self._backoff = Backoff()
        self._days: set[int] = set()  # days since the epoch that need no partition made

    async def run(self, stop: asyncio.Event) -> None:
        """Ship until `stop` is set and nothing is left, or PostgreSQL is away then."""
        lock = await self._take_turn(stop)
        if lock is None:
            return
        try:
            await self._ship_all(SpoolReader(self.spool_dir), stop)
        finally:
            await self._disconnect()
            os.close(lock)

    async def _take_turn(self, stop: asyncio.Event) -> int | None:
        self.spool_dir.mkdir(parents=True, exist_ok=True)
        while (lock := take_lock(self.spool_dir / SHIPPER_LOCK)) is None:
            if await pause(stop, 0.5):
                return None
        return lock

    async def _ship_all(self, reader: SpoolReader, stop: asyncio.Event) -> None:
        while True:
            stopping = stop.is_set()
            # Asked before reading: what the dead had to say is all there.
            dead = self._dead()
            batch = reader.read(BATCH_RECORDS)
            if batch.records and not await self._deliver(batch.records, reader, stop):
                return
            reader.release(batch)
            if dead and not await self._bury_all(dead, batch, reader, stop):
                return
            if len(batch.records) == BATCH_RECORDS:
                continue
            if stopping:
                if batch.records:
                    continue
                return
            # A transaction costs as much as a hundred records: they gather for the next.
            await pause(stop, POLL_S)

    def _dead(self) -> list[Path]:
        """Return the files that dead processes left of their calls under way."""
        if self._bury is None:
            return []
        return [p for d in worker_directories(self.spool_dir) for p in abandoned(d)]

    async def _bury_all(
        self, dead: list[Path], batch: SpoolBatch, reader: SpoolReader, stop: asyncio.Event
    ) -> bool:
        """Settle with the dead whose records are all stored; return False when told to stop."""
        for path in dead:
            if self._bury is None or path.parent not in batch.drained:
                continue
            if not await self._lay_to_rest(path, self._bury, reader, stop):
                return False
        return True

    async def _lay_to_rest(
        self, path: Path, bury: Bury, reader: SpoolReader, stop: asyncio.Event
    ) -> bool:
        """Store what a dead process had under way, and free the money it had left.

        All its records are stored. Done twice it changes nothing; returns False when told to stop.
        """
        lost = left_behind(path)
        if lost:
            logger.warning("A worker died with %d paid calls under way: %s", len(lost), path.name)
        if lost and not await self._deliver(lost, reader, stop):
            return False
        while True:
            try:
                await bury(await self._connected(), holder_of(path))
            except (psycopg.Error, OSError) as exc:
                logger.warning("The money of a dead worker waits: %s", one_line(exc))
                await self._disconnect()
                if await pause(stop, self._backoff.failed()):
                    return False
                continue
            self._backoff.succeeded()
            remove(path)
            return True

    async def _deliver(
        self, records: Sequence[RequestRecord], reader: SpoolReader, stop: asyncio.Event
    ) -> bool:
        """Try until the records are stored; returns False when told to stop before they were."""
        while True:
            try:
                new = await self._store(records, reader)
            except (psycopg.Error, OSError) as exc:
                if self._backoff.fresh:
                    logger.warning(
                        "Records wait in the spool, PostgreSQL refuses: %s", one_line(exc)
                    )
                await self._disconnect()
                if await pause(stop, self._backoff.failed()):
                    return False
                continue
            if not self._backoff.fresh:
                logger.warning("PostgreSQL takes records again.")
            self._backoff.succeeded()
            if new:
                self.on_shipped(new)
            return True

    async def _store(
        self, records: Sequence[RequestRecord], reader: SpoolReader
    ) -> list[RequestRecord]:
        connection = await self._connected()
        await self._make_partitions(connection, records)
        try:
            ids = await store(connection, records, self._settle)
        except (psycopg.DataError, psycopg.IntegrityError) as exc:
            return await self._divide(records, reader, exc)
        by_id = {record.id: record for record in records}
        return [by_id[id_] for id_ in ids]

    async def _divide(
        self, records: Sequence[RequestRecord], reader: SpoolReader, exc: psycopg.Error
    ) -> list[RequestRecord]:
        """Find the record that PostgreSQL will never take, and ship the others."""
        if len(records) == 1:
            reader.reject(records[0], one_line(exc))
            return []
        middle = len(records) // 2
        return [
            *await self._store(records[:middle], reader),
            *await self._store(records[middle:], reader),
        ]

    async def _connected(self) -> AsyncConnection:
        if self._connection is None:
            self._connection = await connect("shipper")
            await self._connection.execute(CREATE_INCOMING)
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None

    async def _make_partitions(
        self, connection: AsyncConnection, records: Sequence[RequestRecord]
    ) -> None:
        """Make the partitions of days long past or just begun; the default one takes the rest."""
        new = {record.created_at_us // DAY_US for record in records} - self._days
        for number in new:
            offset = number - (today() - dt.date(1970, 1, 1)).days
            if -self.retention_days <= offset <= DAYS_AHEAD:
                day = today() + dt.timedelta(days=offset)
                with contextlib.suppress(psycopg.errors.LockNotAvailable):
                    await ensure_day(connection, day)
        self._days |= new

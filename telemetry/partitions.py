"""One partition of the request table for each UTC day: made ahead, dropped when retention ends."""

import datetime as dt
import logging
import re
from dataclasses import dataclass

import psycopg

from telemetry.database import AsyncConnection

logger = logging.getLogger(__name__)

TABLE = "telemetry_orchestratorrequest"
DAYS_AHEAD = 7
# A reader of the whole table must not hold up shipping: the default partition takes the rows.
LOCK_LIMIT = "SET LOCAL lock_timeout = '2s'"
_PARTITION = re.compile(rf"{TABLE}_p(\d{{8}})")


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days requests, samples and minutes are kept, and how many the longer sums."""

    days: int
    sums_days: int


def today() -> dt.date:
    """Return the day by UTC, which is what partitions go by."""
    return dt.datetime.now(dt.UTC).date()


def partition_name(day: dt.date) -> str:
    """Return the table that holds one day."""
    return f"{TABLE}_p{day:%Y%m%d}"


async def ensure_day(connection: AsyncConnection, day: dt.date) -> None:
    """Make the partition of `day` if it is missing; rows that came before it are moved into it.

    Raises psycopg.errors.LockNotAvailable where readers of the table did not let go in time.
    """
    name = partition_name(day)
    found = await connection.execute("SELECT to_regclass(%s)", [name])
    if (await found.fetchone() or (None,))[0] is not None:
        return
    bounds = {"start": f"{day} 00:00:00+00", "end": f"{day + dt.timedelta(days=1)} 00:00:00+00"}
    async with connection.transaction():
        await connection.execute(LOCK_LIMIT)
        # Two conductors, or two jobs of one, may meet here; the second finds the work done.
        await connection.execute(f"LOCK TABLE {TABLE} IN SHARE UPDATE EXCLUSIVE MODE")
        found = await connection.execute("SELECT to_regclass(%s)", [name])
        if (await found.fetchone() or (None,))[0] is not None:
            return
        await connection.execute(
            f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
        )
        await connection.execute(
            f"WITH moved AS (DELETE FROM {TABLE}_default"  # noqa: S608
            " WHERE created_at >= %(start)s AND created_at < %(end)s RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved",
            bounds,
        )
        await connection.execute(
            f"ALTER TABLE {TABLE} ATTACH PARTITION {name}"
            f" FOR VALUES FROM ('{bounds['start']}') TO ('{bounds['end']}')"
        )


async def ensure_ahead(connection: AsyncConnection, now: dt.date) -> None:
    """Make the partitions from yesterday to a week ahead."""
    for offset in range(-1, DAYS_AHEAD + 1):
        await ensure_day(connection, now + dt.timedelta(days=offset))


async def existing_days(connection: AsyncConnection) -> list[dt.date]:
    """Return the days that have a partition, oldest first."""
    rows = await connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE]
    )
    matches = (_PARTITION.fullmatch(str(name)) for (name,) in await rows.fetchall())
    return sorted(dt.datetime.strptime(m[1], "%Y%m%d").date() for m in matches if m)  # noqa: DTZ007


async def retire(connection: AsyncConnection, now: dt.date, retention: Retention) -> list[dt.date]:
    """Drop what is too old; returns the days whose partition went."""
    oldest = now - dt.timedelta(days=retention.days)
    gone = []
    for day in await existing_days(connection):
        if day >= oldest:
            break
        try:
            async with connection.transaction():
                await connection.execute(LOCK_LIMIT)
                await connection.execute(f"DROP TABLE {partition_name(day)}")
        except psycopg.errors.LockNotAvailable:
            logger.info("The requests of %s are in use; they are dropped later.", day)
            break
        gone.append(day)
    for what, before in (
        (f"{TABLE}_default WHERE created_at", oldest),
        ("telemetry_systemresource WHERE recorded_at", oldest),
        ("telemetry_requestminute WHERE started_at", oldest),
        ("telemetry_requestspan WHERE seconds = 60 AND started_at", oldest),
        *(
            (f"telemetry_request{table} WHERE started_at", now - dt.timedelta(retention.sums_days))
            for table in ("hour", "day", "span")
        ),
    ):
        await connection.execute(f"DELETE FROM {what} < %s", [before])  # noqa: S608 - our names
    return gone

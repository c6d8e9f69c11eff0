"""Partitions: made ahead, made late, and dropped when their time is over."""

import asyncio
import datetime as dt

import psycopg
import pytest

from telemetry.database import AsyncConnection, connect
from telemetry.folding import fold
from telemetry.partitions import (
    TABLE,
    Retention,
    ensure_ahead,
    ensure_day,
    existing_days,
    partition_name,
    retire,
    today,
)
from telemetry.shipper.store import CREATE_INCOMING, store
from tests.telemetry.asking import count_requests, one, rows
from tests.telemetry.records import a_record

LONG_AGO = dt.date(2001, 9, 9)


def on(day: dt.date) -> int:
    """Return noon of a day in microseconds."""
    noon = dt.datetime.combine(day, dt.time(12), dt.UTC)
    return int(noon.timestamp()) * 1_000_000


@pytest.fixture
async def clean(database: AsyncConnection) -> AsyncConnection:
    for day in await existing_days(database):
        await database.execute(f"DROP TABLE {partition_name(day)}")
    await database.execute(CREATE_INCOMING)
    return database


async def test_a_week_is_made_ahead_and_doing_it_again_is_harmless(clean: AsyncConnection) -> None:
    for _ in range(2):
        await ensure_ahead(clean, LONG_AGO)
    days = await existing_days(clean)
    assert days == [LONG_AGO + dt.timedelta(days=n) for n in range(-1, 8)]


async def test_rows_that_came_before_their_partition_move_into_it(clean: AsyncConnection) -> None:
    records = [a_record(n, created_at_us=on(LONG_AGO)) for n in range(3)]
    other = a_record(9, created_at_us=on(LONG_AGO + dt.timedelta(days=1)))
    await store(clean, [*records, other])
    await ensure_day(clean, LONG_AGO)
    where = await rows(
        clean,
        f"SELECT tableoid::regclass::text, count(*) FROM {TABLE} GROUP BY 1 ORDER BY 1",  # noqa: S608
    )
    assert where == [(f"{TABLE}_default", 1), (partition_name(LONG_AGO), 3)]
    # The key holds in the new place too.
    assert await store(clean, records) == []


async def test_a_partition_has_the_tables_indexes(clean: AsyncConnection) -> None:
    await ensure_day(clean, LONG_AGO)
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = %s"
    assert await one(clean, indexes, partition_name(LONG_AGO)) == 6


async def test_two_at_once_make_it_once(clean: AsyncConnection) -> None:
    other = await connect("tests")
    days = [LONG_AGO + dt.timedelta(days=n) for n in range(4)]

    async def make(connection: AsyncConnection, wanted: list[dt.date]) -> None:
        for day in wanted:
            await ensure_day(connection, day)

    await asyncio.gather(make(clean, days), make(other, days[::-1]))
    await other.close()
    assert await existing_days(clean) == days


async def test_a_reader_who_holds_the_table_does_not_hold_up_for_long(
    clean: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.partitions.LOCK_LIMIT", "SET LOCAL lock_timeout = '50ms'")
    reader = await connect("tests")
    async with reader.transaction():
        await reader.execute(f"SELECT count(*) FROM {TABLE}")  # noqa: S608
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await ensure_day(clean, LONG_AGO)
        # Rows are taken all the same.
        assert len(await store(clean, [a_record(1, created_at_us=on(LONG_AGO))])) == 1
    await reader.close()


async def test_retention_drops_what_is_older_and_keeps_the_rest(clean: AsyncConnection) -> None:
    now = today()
    for days in (40, 31, 30, 1):
        await ensure_day(clean, now - dt.timedelta(days=days))
    ages = (400, 40, 31, 30, 1, 0)
    stored = [
        a_record(n, created_at_us=on(now - dt.timedelta(days=age))) for n, age in enumerate(ages)
    ]
    await store(clean, stored)
    await fold(clean)
    gone = await retire(clean, now, Retention(days=30, sums_days=90))
    assert gone == [now - dt.timedelta(days=days) for days in (40, 31)]
    assert await count_requests(clean) == 3
    assert await one(clean, "SELECT count(*) FROM telemetry_requestminute") == 3
    # Sums by the hour and the day live longer: all but that of 400 days ago.
    for table in ("hour", "day", "span WHERE seconds = 3600 --"):
        counted = f"SELECT count(*) FROM telemetry_request{table}"  # noqa: S608
        assert await one(clean, counted) == 5
    assert await one(clean, "SELECT count(*) FROM telemetry_requestspan WHERE seconds = 60") == 3

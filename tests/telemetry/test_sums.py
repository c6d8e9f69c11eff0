"""Sums by the minute, hour, day and span: what the requests themselves would say."""

import asyncio
import datetime as dt
import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from telemetry.database import AsyncConnection, connect
from telemetry.folding import COLUMNS, TAKE_DELTAS, fold
from telemetry.histogram import Histogram, bucket
from telemetry.record import RequestRecord
from telemetry.shipper.store import CREATE_INCOMING, store
from tests.telemetry.asking import one, rows
from tests.telemetry.records import a_record

NOON_US = 1_795_435_200_000_000  # 2026-11-23 12:00 UTC
TABLES = {"minute": 60, "hour": 3600, "day": 86_400}


@pytest.fixture
async def shipping(database: AsyncConnection) -> AsyncConnection:
    await database.execute(CREATE_INCOMING)
    return database


def some_records(dice: random.Random, count: int) -> list[RequestRecord]:
    """Return requests of two days that differ in everything that is summed."""
    return [
        a_record(
            dice.randrange(3),
            created_at_us=NOON_US + dice.randrange(36 * 3600) * 1_000_000,
            kind=dice.choice(("route", "chat", "select")),
            task_type=dice.choice(("code", "analysis")),
            tenant=dice.choice(("", "acme", "tab\tand \\ slash")),
            response_time_ms=int(dice.lognormvariate(6, 1.5)),
            success=dice.random() < 0.9,
            fallback_used=dice.random() < 0.2,
            simulated=dice.random() < 0.1,
            usage_estimated=dice.random() < 0.3,
            cost_known=dice.random() < 0.8,
            cost_nusd=dice.randrange(10**12),
            cached_tokens=dice.randrange(50),
            baseline_known=dice.random() < 0.8,
            baseline_nusd=dice.randrange(10**12),
        )
        for _ in range(count)
    ]


def expected(records: Sequence[RequestRecord], seconds: int) -> dict[tuple[Any, ...], list[int]]:
    """Return the sums by group, made in the plainest way."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for r in records:
        start = r.created_at_us // 1_000_000 // seconds * seconds
        at = dt.datetime.fromtimestamp(start, dt.UTC)
        key = (at, r.tenant, r.selected_model, r.task_type, r.kind)
        compared = r.cost_known and r.baseline_known
        measured, estimated = compared and not r.usage_estimated, compared and r.usage_estimated
        more = [
            1, r.success, r.fallback_used, r.simulated, r.response_time_ms, r.response_time_ms,
            r.prompt_tokens, r.cached_tokens, r.completion_tokens, r.cost_nusd, not r.cost_known,
            measured, measured * r.cost_nusd, measured * r.baseline_nusd,
            estimated, estimated * r.cost_nusd, estimated * r.baseline_nusd, not compared,
        ]  # fmt: skip
        sums = found.setdefault(key, [0] * len(COLUMNS))
        most = max(sums[5], r.response_time_ms)
        for index, number in enumerate(more):
            sums[index] += number
        sums[5] = most
    return found


@pytest.mark.parametrize("table", TABLES)
async def test_every_sum_is_that_of_its_requests(shipping: AsyncConnection, table: str) -> None:
    records = some_records(random.Random(table), 600)  # noqa: S311
    for start in range(0, 600, 50):
        # Some of each batch were stored before: they count once.
        await store(shipping, records[max(0, start - 10) : start + 50])
        if start % 150 == 0:
            await fold(shipping)
    await fold(shipping)
    found = await rows(
        shipping,
        f"SELECT started_at, tenant, model_name, task_type, kind, {', '.join(COLUMNS)}"  # noqa: S608
        f" FROM telemetry_request{table}",
    )
    assert {row[:5]: list(row[5:]) for row in found} == expected(records, TABLES[table])


@pytest.mark.parametrize("seconds", [60, 3600])
async def test_spans_are_the_groups_together(shipping: AsyncConnection, seconds: int) -> None:
    records = some_records(random.Random(seconds), 400)  # noqa: S311
    for start in range(0, 400, 40):
        await store(shipping, records[start : start + 40])
        if start == 200:
            await fold(shipping)
    await fold(shipping)
    summed = ", ".join(f"{'max' if c.endswith('max_ms') else 'sum'}({c})::bigint" for c in COLUMNS)
    table = {60: "minute", 3600: "hour"}[seconds]
    groups = await rows(
        shipping,
        "SELECT started_at, CASE kind WHEN 'select' THEN kind ELSE 'call' END,"  # noqa: S608
        f" {summed} FROM telemetry_request{table}"
        " GROUP BY 1, 2 ORDER BY 1, 2",
    )
    spans = await rows(
        shipping,
        f"SELECT started_at, kind, {', '.join(COLUMNS)} FROM telemetry_requestspan"  # noqa: S608
        " WHERE seconds = %s ORDER BY 1, 2",
        seconds,
    )
    assert spans == groups


@pytest.mark.parametrize("table", ["requestminute", "requesthour", "requestday", "requestspan"])
async def test_histograms_merge_to_that_of_all_requests(
    shipping: AsyncConnection, table: str
) -> None:
    records = some_records(random.Random(5), 500)  # noqa: S311
    for start in range(0, 500, 25):
        await store(shipping, records[start : start + 25])
        if start % 100 == 0:
            await fold(shipping)
    await fold(shipping)
    whole = Histogram()
    for record in records:
        whole.add(record.response_time_ms)
    where = " WHERE seconds = 60" if table == "requestspan" else ""
    stored = await rows(
        shipping,
        f"SELECT response_buckets, response_counts FROM telemetry_{table}{where}",  # noqa: S608
    )
    merged = Histogram()
    for buckets, counts in stored:
        assert buckets == sorted(set(buckets))
        merged.merge(Histogram(zip(buckets, counts, strict=True)))
    assert merged.counts == whole.counts
    low, high = sorted(r.response_time_ms for r in records)[474:476]
    assert bucket(low) <= bucket(merged.quantile(0.95) or 0) <= bucket(high)


async def test_a_choice_alone_is_neither_billed_nor_compared(shipping: AsyncConnection) -> None:
    chosen = a_record(kind="select", prompt_tokens=0, completion_tokens=0, cost_nusd=0, attempts=())
    await store(shipping, [chosen])
    await fold(shipping)
    sums = "measured_count + estimated_count + uncompared_count + cost_unknown_count"
    assert await one(shipping, f"SELECT {sums} FROM telemetry_requestday") == 0  # noqa: S608


async def test_folding_counts_each_batch_once(
    shipping: AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telemetry.folding.TAKE_DELTAS", TAKE_DELTAS.replace("200", "3"))
    monkeypatch.setattr("telemetry.folding.DELTAS_AT_ONCE", 3)
    other = await connect("tests")
    for number in range(20):
        await store(shipping, [a_record(number)])
    folded = await asyncio.gather(fold(shipping), fold(other))
    await other.close()
    assert sum(folded) == 20
    assert await fold(shipping) == 0
    for table in ("minute", "hour", "day", "span WHERE seconds = 60"):
        counted = f"SELECT sum(request_count) FROM telemetry_request{table}"  # noqa: S608
        assert await one(shipping, counted) == 20


async def test_a_fold_that_fails_loses_nothing(shipping: AsyncConnection) -> None:
    await store(shipping, [a_record(1)])
    await shipping.execute("ALTER TABLE telemetry_requestspan RENAME TO gone")
    try:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await fold(shipping)
        assert await one(shipping, "SELECT count(*) FROM telemetry_requestminute") == 0
    finally:
        await shipping.execute("ALTER TABLE gone RENAME TO telemetry_requestspan")
    assert await fold(shipping) == 1


async def test_names_that_postgresql_cannot_hold_are_one_group_with_what_is_left(
    shipping: AsyncConnection,
) -> None:
    names = ("a", "a\0", "\0a")
    await store(shipping, [a_record(1, tenant=name, task_type=name) for name in names])
    await fold(shipping)
    found = await rows(
        shipping, "SELECT tenant, task_type, request_count FROM telemetry_requestday"
    )
    assert found == [("a", "a", 3)]

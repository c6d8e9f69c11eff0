"""The export: every record of a period once, in order, in either format."""

import asyncio
import csv
import datetime as dt
import io
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from arro3.io import read_parquet
from django.test import AsyncClient, Client

from telemetry import export
from telemetry.api import export as api
from telemetry.database import AsyncConnection
from telemetry.export import COLUMNS, exported
from telemetry.record import Attempt, Charge, RequestRecord
from telemetry.shipper.store import CREATE_INCOMING, store
from tests.telemetry.asking import one
from tests.telemetry.records import a_record

PATH = "/api/v1/ai/analytics/requests"
NOON_US = 1_795_435_200_000_000  # 2026-11-23 12:00 UTC
START = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
NASTY = 'comma, "quote"\nnew line\ttab \\ ☃ \r end'


@pytest.fixture
async def shipping(database: AsyncConnection, monkeypatch: pytest.MonkeyPatch) -> AsyncConnection:
    monkeypatch.setattr(export, "PAGE_ROWS", 7)
    await database.execute(CREATE_INCOMING)
    return database


def some(count: int) -> list[RequestRecord]:
    """Return requests of which many came in the same microsecond."""
    dice = random.Random(count)  # noqa: S311
    return [
        a_record(n, created_at_us=NOON_US + dice.randrange(5), error_message=NASTY if n % 2 else "")
        for n in range(count)
    ]


async def collected(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def rows_of(wanted: export.Format, start: dt.datetime = START) -> list[dict[str, Any]]:
    content = await collected(exported(wanted, start, start + DAY))
    if wanted == "csv":
        return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    table = read_parquet(content).read_all()
    columns = {name: table[name].to_pylist() for name in table.schema.names}
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


@pytest.mark.parametrize("wanted", ["csv", "parquet"])
@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 100])
async def test_every_record_once_and_in_order(
    shipping: AsyncConnection, wanted: export.Format, count: int
) -> None:
    records = some(count)
    if records:
        await store(shipping, records)
    # One at the very end and one just before: neither belongs to the period.
    await store(
        shipping,
        [a_record(created_at_us=NOON_US - 1), a_record(created_at_us=NOON_US + 86_400_000_000)],
    )
    found = await rows_of(wanted)
    ordered = sorted(records, key=lambda r: (r.created_at_us, r.id))
    assert [row["request_id"] for row in found] == [r.request_id for r in ordered]


async def test_values_arrive_in_both(shipping: AsyncConnection) -> None:
    record = a_record(
        1, created_at_us=NOON_US + 123_456, tenant="acme", tag=NASTY, reason=NASTY, success=False,
        cost_nusd=2**53 + 1, baseline_nusd=7, baseline_known=True, resource_pressure=0.125,
        attempts=(Attempt("m", 'e"x', 5, "upstream_timeout"),), charges=(Charge(b"\1" * 16, 9),),
    )  # fmt: skip
    await store(shipping, [record])
    (as_csv,), (as_parquet,) = await rows_of("csv"), await rows_of("parquet")
    assert list(as_csv) == list(as_parquet) == [name for name, _ in COLUMNS]
    assert as_csv["created_at"] == "2026-11-23T12:00:00.123456Z"
    assert as_parquet["created_at"] == START + dt.timedelta(microseconds=123_456)
    assert as_csv["tag"] == as_parquet["tag"] == as_parquet["reason"] == NASTY
    assert (as_csv["success"], as_parquet["success"]) == ("false", False)
    assert int(as_csv["cost_nusd"]) == as_parquet["cost_nusd"] == 2**53 + 1
    assert as_parquet["baseline_known"] is True
    assert as_parquet["resource_pressure"] == 0.125
    assert as_parquet["key"] is None
    assert json.loads(as_csv["attempts"]) == json.loads(as_parquet["attempts"])
    assert json.loads(as_csv["charges"])[0]["nusd"] == 9


async def test_every_column_of_the_table_is_in_it(shipping: AsyncConnection) -> None:
    found = await one(
        shipping,
        "SELECT array_agg(attname::text) FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped"
        " AND attrelid = 'telemetry_orchestratorrequest'::regclass",
    )
    # Dollars are for readers of the table: nano-dollars are exact.
    assert set(found) - {"cost_estimate"} == {name for name, _ in COLUMNS}


@pytest.mark.parametrize("wanted", ["csv", "parquet"])
async def test_who_leaves_early_leaves_nothing_behind(
    shipping: AsyncConnection,
    wanted: export.Format,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export, "ROW_GROUP_ROWS", 10)
    await store(shipping, some(300))
    chunks = exported(wanted, START, START + DAY)
    await anext(chunks)
    await asyncio.wait_for(chunks.aclose(), 5)  # type: ignore[attr-defined]
    await _no_connection(shipping)
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("wanted", ["csv", "parquet"])
async def test_a_lost_connection_is_an_error_and_no_short_file(
    shipping: AsyncConnection, wanted: export.Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(shipping, some(30))

    async def away(*args: Any) -> list[bytes]:
        raise ConnectionError("PostgreSQL went away")

    chunks = exported(wanted, START, START + DAY)
    if wanted == "csv":
        await anext(chunks)
    monkeypatch.setattr(export, "_page", away)
    with pytest.raises(Exception, match="PostgreSQL went away"):
        await collected(chunks)
    await _no_connection(shipping)


async def _no_connection(database: AsyncConnection) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ai-orchestra export'"
    async with asyncio.timeout(5):
        while await one(database, count):  # noqa: ASYNC110 - PostgreSQL's doing
            await asyncio.sleep(0.02)


class TestDoor:
    @pytest.mark.parametrize(
        ("wanted", "kind"),
        [("csv", "text/csv"), ("parquet", "application/vnd.apache.parquet"), (None, "text/csv")],
    )
    async def test_it_is_a_file(
        self, shipping: AsyncConnection, web: AsyncClient, wanted: str | None, kind: str
    ) -> None:
        await store(shipping, some(20))
        asked = {"from": "2026-11-23T12:00", "to": "2026-11-24"}
        answer = await web.get(PATH, asked | ({"format": wanted} if wanted else {}))
        assert answer.status_code == 200
        assert answer["content-type"] == kind
        name = f'filename="requests-20261123T1200-20261124T0000.{wanted or "csv"}"'
        assert name in answer["content-disposition"]
        content = await collected(answer.streaming_content)  # type: ignore[attr-defined]
        assert content[:4] == (b"PAR1" if wanted == "parquet" else b"crea")
        assert api.RequestsExportView.under_way == 0

    @pytest.mark.parametrize(
        ("query", "pointer"),
        [("format=xlsx", "/format"), ("format=", "/format"), ("from=x", "/from"), ("by=x", "/by")],
    )
    @pytest.mark.django_db
    def test_bad_parameters_are_refused_by_name(
        self, client: Client, query: str, pointer: str
    ) -> None:
        answer = client.get(f"{PATH}?{query}")
        assert (answer.status_code, answer["content-type"]) == (400, "application/problem+json")
        assert [e["pointer"] for e in answer.json()["errors"]] == [pointer]

    @pytest.mark.django_db
    def test_too_many_at_once_are_told_to_wait(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api.RequestsExportView, "under_way", api.MOST_AT_ONCE)
        answer = client.get(PATH)
        assert (answer.status_code, answer.json()["code"]) == (503, "exports_busy")

"""The shipper's loop against a real PostgreSQL: outages, poison, stopping."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from telemetry.database import AsyncConnection
from telemetry.record import RequestRecord
from telemetry.recorder import Recorder
from telemetry.shipper import Shipper
from telemetry.spool.layout import segments, spool_use
from tests.telemetry.asking import count_requests, one, rows
from tests.telemetry.records import a_record


class Shipping:
    """A running shipper and what it told."""

    def __init__(self, spool_dir: Path) -> None:
        self.shipped: list[RequestRecord] = []
        self.stop = asyncio.Event()
        self._more = asyncio.Event()
        self.shipper = Shipper(spool_dir, self._take)
        self.task = asyncio.create_task(self.shipper.run(self.stop))

    def _take(self, records: Sequence[RequestRecord]) -> None:
        self.shipped += records
        self._more.set()

    async def until(self, count: int, limit_s: float = 20) -> None:
        async with asyncio.timeout(limit_s):
            while len(self.shipped) < count:
                self._more.clear()
                await self._more.wait()

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 10)


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    recorder = Recorder(tmp_path, "web-0")
    yield recorder
    recorder.close()


async def test_a_record_is_a_row_within_a_second(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    shipping = Shipping(tmp_path)
    recorder.record(a_record(1))
    await shipping.until(1)
    started = time.monotonic()
    recorder.record(a_record(2))
    await shipping.until(2)
    # A bound with room for a busy machine; docs/records.md has what was measured.
    assert time.monotonic() - started < 5
    assert await count_requests(database) == 2
    await shipping.end()


async def test_stopping_ships_what_is_there(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    for number in range(12_000):
        recorder.record(a_record(number))
    shipping = Shipping(tmp_path)
    await shipping.end()
    assert await count_requests(database) == len(shipping.shipped) == 12_000
    assert spool_use(tmp_path).backlog_bytes == 0


async def test_rows_lie_in_their_days_partition(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    day_us = 86_400_000_000
    now_us = time.time_ns() // 1000
    for days in (0, -3, -400, 4000):
        recorder.record(a_record(1, created_at_us=now_us + days * day_us))
    recorder.record(a_record(1, created_at_us=0))
    shipping = Shipping(tmp_path)
    await shipping.until(5)
    await shipping.end()
    found = await rows(
        database,
        "SELECT tableoid::regclass::text LIKE '%%default', count(*)"
        " FROM telemetry_orchestratorrequest GROUP BY 1 ORDER BY 1",
    )
    assert found == [(False, 2), (True, 3)]


async def test_poison_is_set_aside_and_the_rest_is_shipped(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    for number in range(40):
        poison = number in (0, 17, 39)
        recorder.record(a_record(number, response_time_ms=2**40 if poison else 5))
    shipping = Shipping(tmp_path)
    await shipping.until(37)
    await shipping.end()
    assert await count_requests(database) == 37
    assert spool_use(tmp_path).corrupt == 3
    assert spool_use(tmp_path).backlog_bytes == 0


async def test_an_outage_is_waited_out(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    shipping = Shipping(tmp_path)
    recorder.record(a_record(1))
    await shipping.until(1)
    await database.execute("ALTER TABLE telemetry_modelmetric RENAME TO gone")
    try:
        recorder.record(a_record(2))
        await asyncio.sleep(0.5)
        assert len(shipping.shipped) == 1
        assert await count_requests(database) == 1
    finally:
        await database.execute("ALTER TABLE gone RENAME TO telemetry_modelmetric")
    await shipping.until(2)
    await shipping.end()
    assert await one(database, "SELECT sum(request_count) FROM telemetry_modelmetric") == 2


async def test_a_cut_connection_is_made_anew(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    shipping = Shipping(tmp_path)
    recorder.record(a_record(1))
    await shipping.until(1)
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'ai-orchestra shipper'"
    )
    recorder.record(a_record(2))
    await shipping.until(2)
    await shipping.end()
    assert await count_requests(database) == 2


async def test_stopping_during_an_outage_leaves_the_records_in_the_spool(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    await database.execute("ALTER TABLE telemetry_modelmetric RENAME TO gone")
    try:
        recorder.record(a_record(1))
        shipping = Shipping(tmp_path)
        await asyncio.sleep(0.3)
        await shipping.end()
    finally:
        await database.execute("ALTER TABLE gone RENAME TO telemetry_modelmetric")
    again = Shipping(tmp_path)
    await again.until(1)
    await again.end()


async def test_a_second_shipper_waits_for_the_first(
    database: AsyncConnection, recorder: Recorder, tmp_path: Path
) -> None:
    first, second = Shipping(tmp_path), Shipping(tmp_path)
    recorder.record(a_record(1))
    await first.until(1)
    await asyncio.sleep(0.2)
    assert second.shipped == []
    await first.end()
    recorder.record(a_record(2))
    await second.until(1)
    await second.end()


async def test_two_shippers_of_two_nodes_agree(database: AsyncConnection, tmp_path: Path) -> None:
    shippings = []
    for node in ("a", "b"):
        (tmp_path / node).mkdir()
        recorder = Recorder(tmp_path / node, "web-0")
        for number in range(8000):
            recorder.record(a_record(number))
        recorder.close()
        shippings.append(Shipping(tmp_path / node))
    for shipping in shippings:
        await shipping.until(8000)
        await shipping.end()
    assert await one(database, "SELECT sum(request_count) FROM telemetry_modelmetric") == 16_000
    assert not segments(tmp_path / "a" / "web-0")

"""The sampling job against a real PostgreSQL."""

import asyncio

from telemetry.database import AsyncConnection
from telemetry.events import Event, ResourcePressureHigh
from telemetry.sampler import HostSample
from telemetry.sampling import Sampling
from tests.telemetry.asking import one, rows

TIGHT = HostSample(1.0, 0.5, 8.0, 0.875, 12.5, 25.0, 1_000_000_000.0)


async def test_samples_become_rows_and_a_crossing_an_event(database: AsyncConnection) -> None:
    told: list[Event] = []
    sampling = Sampling(told.append, look=lambda: TIGHT, store_every_s=0.1)
    stop = asyncio.Event()
    running = asyncio.create_task(sampling.run(stop))
    await asyncio.sleep(0.8)
    stop.set()
    await asyncio.wait_for(running, 5)
    found = await rows(
        database,
        "SELECT memory_available_gb, memory_free_gb, memory_total_gb, cpu_usage_percent,"
        " swap_used_percent, extract(epoch FROM recorded_at)::float8"
        " FROM telemetry_systemresource",
    )
    assert len(found) >= 2
    assert set(found) == {(1.0, 0.5, 8.0, 12.5, 25.0, 1_000_000_000.0)}
    assert [type(event) for event in told] == [ResourcePressureHigh]


async def test_samples_wait_while_the_database_refuses(database: AsyncConnection) -> None:
    await database.execute("ALTER TABLE telemetry_systemresource RENAME TO gone")
    sampling = Sampling(lambda event: None, look=lambda: TIGHT, store_every_s=0.05)
    stop = asyncio.Event()
    running = asyncio.create_task(sampling.run(stop))
    await asyncio.sleep(0.4)
    await database.execute("ALTER TABLE gone RENAME TO telemetry_systemresource")
    await asyncio.sleep(0.6)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert await one(database, "SELECT count(*) FROM telemetry_systemresource") >= 5

"""Stores a sample of this host every five seconds and tells when memory gets tight."""

import asyncio
import contextlib
import datetime as dt
import logging
import uuid
from collections import deque
from collections.abc import Callable

import psycopg

from telemetry.crossing import PressureWatch
from telemetry.database import AsyncConnection, connect, one_line
from telemetry.events import Event
from telemetry.sampler import HostSample, sample
from telemetry.waiting import pause

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
STORE_EVERY_S = 5.0
KEEP_SAMPLES = 720  # an hour of them, while PostgreSQL is away

INSERT = """
INSERT INTO telemetry_systemresource (
    id, memory_available_gb, memory_free_gb, memory_total_gb, cpu_usage_percent,
    swap_used_percent, recorded_at)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""


class Sampling:
    """The conductor's job; `latest` is what it saw last."""

    def __init__(
        self,
        publish: Callable[[Event], None],
        *,
        look: Callable[[], HostSample] = sample,
        store_every_s: float = STORE_EVERY_S,
    ) -> None:
        self.latest = look()
        self._look = look
        self._publish = publish
        self._store_every_s = store_every_s
        self._watch = PressureWatch()
        self._waiting: deque[HostSample] = deque(maxlen=KEEP_SAMPLES)
        self._connection: AsyncConnection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Sample until `stop` is set."""
        storing = asyncio.create_task(self._store_regularly(stop))
        try:
            while not await pause(stop, LOOK_EVERY_S):
                self.latest = self._look()
                if event := self._watch.crossed(self.latest):
                    logger.warning("Memory pressure is high: %.2f.", event.memory_pressure)
                    self._publish(event)
        finally:
            storing.cancel()
            await asyncio.wait([storing])
            await self._disconnect()

    async def _store_regularly(self, stop: asyncio.Event) -> None:
        away = False
        while True:
            self._waiting.append(self.latest)
            try:
                await self._store()
                away = False
            except (psycopg.Error, OSError) as exc:
                if not away:
                    logger.warning("Samples wait, PostgreSQL refuses: %s", one_line(exc))
                away = True
                await self._disconnect()
            if await pause(stop, self._store_every_s):
                return

    async def _store(self) -> None:
        if self._connection is None:
            self._connection = await connect("sampler")
        while self._waiting:
            await self._connection.execute(INSERT, _row(self._waiting[0]))
            self._waiting.popleft()

    async def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None


def _row(host: HostSample) -> tuple[object, ...]:
    return (
        uuid.uuid4(),
        host.available_gb,
        host.free_gb,
        host.total_gb,
        host.cpu_percent,
        host.swap_percent,
        dt.datetime.fromtimestamp(host.at, dt.UTC),
    )

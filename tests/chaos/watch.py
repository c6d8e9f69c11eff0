"""Looks at a service in trouble once a second: its memory, its backlog, how late its books are."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import psutil
import psycopg

from telemetry.spool.layout import spool_use
from tests.chaos.house import House

WORKERS = ("web-0", "web-1", "conductor")
LOOK_S = 1.0
MIB = 2**20
NEWEST = "SELECT max(created_at) FROM telemetry_orchestratorrequest WHERE worker <> 'ghost'"


@dataclass(slots=True)
class Seen:
    """What was seen so far; memory is proportional (PSS), in bytes by process."""

    before: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    spool_bytes: int = 0
    lag_s: float = 0.0  # the most that the newest record in PostgreSQL was behind the clock
    caught_up_s: float = 0.0  # how late it was when last looked

    def memory(self, name: str, size: int) -> None:
        self.before.setdefault(name, size)
        self.peak[name] = max(size, self.peak.get(name, 0))

    def grown_mib(self, name: str) -> float:
        return (self.peak.get(name, 0) - self.before.get(name, 0)) / MIB


@contextlib.asynccontextmanager
async def watching(home: House) -> AsyncIterator[Seen]:
    """Look on while the block runs."""
    seen = Seen()
    _look(home, seen, newest := [dt.datetime.now(dt.UTC)])
    task = asyncio.create_task(_watch(home, seen, newest))
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _watch(home: House, seen: Seen, newest: list[dt.datetime]) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        await asyncio.to_thread(_look, home, seen, newest)


def _look(home: House, seen: Seen, newest: list[dt.datetime]) -> None:
    for name in WORKERS:
        with contextlib.suppress(LookupError, psutil.Error):
            seen.memory(name, home.live.child(name).memory_full_info().pss)
    seen.spool_bytes = max(seen.spool_bytes, spool_use(home.live.home.spool).backlog_bytes)
    with contextlib.suppress(psycopg.Error):
        found = _newest(home.database_url)
        newest[0] = max(newest[0], found) if found else newest[0]
    seen.caught_up_s = (dt.datetime.now(dt.UTC) - newest[0]).total_seconds()
    seen.lag_s = max(seen.lag_s, seen.caught_up_s)


def _newest(url: str) -> dt.datetime | None:
    with psycopg.connect(url, connect_timeout=2) as connection:
        row = connection.execute(NEWEST).fetchone()
    found: dt.datetime | None = row[0] if row else None
    return found

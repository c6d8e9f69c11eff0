"""Processes are killed at random moments under load: every answer has its record, none has two."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg

from telemetry.spool.frame import frame
from telemetry.spool.layout import spool_use
from tests.chaos import stage
from tests.chaos.house import House
from tests.chaos.outage import Engines
from tests.telemetry.records import a_record

VICTIMS = ("web-0", "web-1", "conductor")
BODY = json.dumps(stage.SELECT).encode()
CALM_S = 1.0  # at least, between two kills: a worker needs some of it to come back
SETTLE_LIMIT_S = 90.0
PLANTED = 50  # good frames among the damaged ones


@dataclass(slots=True)
class Told:
    """What the callers were told."""

    answered: set[str] = field(default_factory=set)
    refused: Counter[int] = field(default_factory=Counter)  # by status
    unanswered: int = 0  # connections that broke with a request under way


@dataclass(frozen=True, slots=True)
class Result:
    """What one run came to."""

    told: Told
    seconds: float
    killed: Counter[str]
    rows: int
    distinct: int
    missing: int
    planted: int
    corrupt: int
    sums: dict[str, int]
    backlog_bytes: int

    @property
    def faults(self) -> list[str]:
        """Return which promises were broken."""
        found = []
        if self.missing:
            found.append(f"{self.missing} answered requests have no record")
        if self.rows != self.distinct:
            found.append(f"{self.rows - self.distinct} records are there twice")
        # A request whose answer got lost may have a record or none.
        most = len(self.told.answered) + self.told.unanswered + self.planted
        refused = sum(self.told.refused.values())
        if self.rows > most + refused:
            found.append(f"{self.rows} records of {most} requests")
        if self.planted != PLANTED:
            found.append(f"{PLANTED - self.planted} records beside damage were lost")
        if self.corrupt < 2:
            found.append(f"{self.corrupt} of 2 damaged pieces were set aside")
        if self.backlog_bytes:
            found.append(f"{self.backlog_bytes} bytes were never shipped")
        for name, total in self.sums.items():
            if total != self.rows:
                found.append(f"the sums by the {name} say {total}, the records {self.rows}")
        return found


async def measure(folder: Path, *, seconds: float, seed: int, callers: int = 16) -> Result:
    """Kill workers, the conductor and PostgreSQL for `seconds`, under as much load as goes."""
    engines = Engines(folder / "engines")
    try:
        engines.redis.start()
        engines.postgres.start()
        urls = {"DATABASE_URL": engines.postgres.url, "REDIS_URL": engines.redis.url}
        async with stage.playing(folder, 30_000, **urls) as (home, _):
            plant(home.live.home.spool)
            told, over = Told(), asyncio.Event()
            began = time.monotonic()
            load = [asyncio.create_task(_ask(home.url, told, over)) for _ in range(callers)]
            killed = await _kill_around(home, engines, seconds, random.Random(seed))  # noqa: S311
            over.set()
            await asyncio.gather(*load)
            took_s = time.monotonic() - began
            return await asyncio.to_thread(_books, home, urls["DATABASE_URL"], told, took_s, killed)
    finally:
        engines.redis.stop()
        engines.postgres.stop()


def plant(spool_dir: Path) -> None:
    """Leave what a dead worker may leave: good frames, one damaged among them, and a torn end."""
    frames = [frame(msgspec.msgpack.encode(a_record(n, worker="ghost"))) for n in range(PLANTED)]
    damaged = bytearray(frame(msgspec.msgpack.encode(a_record(PLANTED, worker="ghost"))))
    damaged[40] ^= 0xFF
    directory = spool_dir / "ghost"
    directory.mkdir(parents=True)
    middle = PLANTED // 2
    content = b"".join([*frames[:middle], damaged, *frames[middle:], frames[0][:50]])
    (directory / f"{1:020d}.spool").write_bytes(content)


async def _kill_around(
    home: House, engines: Engines, seconds: float, dice: random.Random
) -> Counter[str]:
    """Kill one process after the other; PostgreSQL once, in the middle."""
    killed: Counter[str] = Counter()
    began = time.monotonic()
    while (now_s := time.monotonic() - began) < seconds:
        await asyncio.sleep(dice.uniform(CALM_S, 4 * CALM_S))
        if now_s > seconds / 3 and not killed["postgres"]:
            killed["postgres"] += 1
            await engines.kill_postgres(seconds / 8)
            continue
        name = dice.choice(VICTIMS)
        with contextlib.suppress(LookupError):  # not back yet
            home.live.child(name).kill()
            killed[name] += 1
    return killed


async def _ask(url: str, told: Told, over: asyncio.Event) -> None:
    """Ask one question after the other, on one connection as long as it holds."""
    parts = urlsplit(url)
    head = (
        f"POST /api/v1/ai/select-model HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    while not over.is_set():
        try:
            async with _connection(parts.hostname or "", parts.port or 80) as (reader, writer):
                while not over.is_set():
                    told.unanswered += 1
                    writer.write(head.encode() + BODY)
                    status, body = await asyncio.wait_for(_answer(reader), 30)
                    told.unanswered -= 1
                    if status == 200:
                        told.answered.add(msgspec.json.decode(body)["requestId"])
                    else:
                        told.refused[status] += 1
                        await asyncio.sleep(0.01)
        except (OSError, asyncio.IncompleteReadError, ValueError, TimeoutError):
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _connection(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    return status, await reader.readexactly(length)


def _books(
    home: House, database_url: str, told: Told, seconds: float, killed: Counter[str]
) -> Result:
    """Return what the database says once it has everything, or after the limit as it is."""
    spool_dir, deadline = home.live.home.spool, time.monotonic() + SETTLE_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError):
            if not spool_use(spool_dir).backlog_bytes and not _one(database_url, DELTAS):
                break
        time.sleep(0.5)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT request_id, worker FROM telemetry_orchestratorrequest")
        found = [(str(id_), str(worker)) for id_, worker in rows]
    ids = {id_ for id_, worker in found if worker != "ghost"}
    ghosts = sum(worker == "ghost" for _, worker in found)
    use = spool_use(spool_dir)
    return Result(
        told=told,
        seconds=seconds,
        killed=killed,
        rows=len(found),
        distinct=len(ids) + ghosts,
        missing=len(told.answered - ids),
        planted=ghosts,
        corrupt=use.corrupt,
        sums={name: _one(database_url, SUM.format(name)) for name in ("minute", "hour", "day")},
        backlog_bytes=use.backlog_bytes,
    )


DELTAS = "SELECT count(*) FROM telemetry_requestdelta"
SUM = "SELECT coalesce(sum(request_count), 0)::bigint FROM telemetry_request{}"


def _one(database_url: str, query: Any) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0

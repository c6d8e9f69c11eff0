"""Real processes, killed with SIGKILL under load: every record is a row, none is there twice."""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from django.db import connections

from telemetry.database import AsyncConnection
from telemetry.folding import fold
from telemetry.spool.layout import spool_use
from tests.telemetry.asking import count_requests, one, rows

ROOT = Path(__file__).parents[2]
RATE = 1500
CONDUCTOR_KILLS = 4
UNTIL_DONE_S = 60


class Writer:
    """A writer process and the ids of the records it said it had kept."""

    def __init__(self, spool_dir: Path, worker: str) -> None:
        self.kept: list[bytes] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.telemetry.writer_process", spool_dir, worker, str(RATE)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while len(id_ := self.process.stdout.read(16)) == 16:
            self.kept.append(id_)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reading.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def conductor(home: Path, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A conductor of the test database whose spool is below `home`; killed at the end."""
    database = connections["default"].settings_dict
    url = f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    environment = {
        **os.environ,
        "ORCHESTRA_HOME": str(home),
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "ORCHESTRA_WORKER": "conductor",
    }
    log = home / "conductor.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestra_site.conductor"],
            cwd=ROOT,
            env=environment,
            stderr=errors,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


async def more_than(database: AsyncConnection, count: int) -> None:
    async with asyncio.timeout(UNTIL_DONE_S):
        while await count_requests(database) <= count:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.02)


async def shipped(spool_dir: Path) -> None:
    async with asyncio.timeout(UNTIL_DONE_S):
        while spool_use(spool_dir).backlog_bytes:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)


@pytest.fixture
async def writers(tmp_path: Path) -> AsyncIterator[list[Writer]]:
    (tmp_path / "spool").mkdir()
    writers = [Writer(tmp_path / "spool", name) for name in ("web-0", "web-1")]
    yield writers
    for writer in writers:
        if writer.process.poll() is None:
            writer.kill()


@pytest.mark.timeout(180)
async def test_nothing_is_lost_and_nothing_doubled(
    database: AsyncConnection, redis_url: str, tmp_path: Path, writers: list[Writer]
) -> None:
    spool_dir = tmp_path / "spool"
    for kill in range(CONDUCTOR_KILLS):
        before = await count_requests(database)
        with conductor(tmp_path, redis_url):
            await more_than(database, before)
            # In the middle of shipping, somewhere else each time.
            await asyncio.sleep(random.uniform(0.05, 0.4))  # noqa: S311
        if kill == 1:
            writers[0].kill()
            writers.append(Writer(spool_dir, "web-0"))
    for writer in writers:
        if writer.process.poll() is None:
            writer.kill()
    with conductor(tmp_path, redis_url) as last:
        await shipped(spool_dir)
        last.terminate()
        assert await asyncio.to_thread(last.wait, 15) == 0
    await agree(database, writers)
    assert spool_use(spool_dir).total_bytes == 0


async def agree(database: AsyncConnection, writers: list[Writer]) -> None:
    ids = {
        row[0].bytes for row in await rows(database, "SELECT id FROM telemetry_orchestratorrequest")
    }
    total = await count_requests(database)
    kept = {id_ for writer in writers for id_ in writer.kept}
    assert len(kept) > 1000
    assert kept <= ids
    assert total == len(ids)
    # A writer may be killed between keeping a record and saying so.
    assert total <= len(kept) + len(writers)
    await fold(database)
    sums = ("minute", "hour", "day", "span WHERE seconds = 60", "span WHERE seconds = 3600")
    for table in ("telemetry_modelmetric", *(f"telemetry_request{table}" for table in sums)):
        assert await one(database, f"SELECT sum(request_count) FROM {table}") == total  # noqa: S608
    by_model = "SELECT selected_model, count(*), avg(response_time_ms)::float8"
    found = await rows(
        database, f"{by_model} FROM telemetry_orchestratorrequest GROUP BY 1 ORDER BY 1"
    )
    counted = await rows(
        database,
        "SELECT model_name, request_count, avg_response_time_ms FROM telemetry_modelmetric"
        " WHERE request_count > 0 ORDER BY 1",
    )
    assert [row[:2] for row in counted] == [row[:2] for row in found]
    assert [row[2] for row in counted] == pytest.approx([row[2] for row in found])

"""A simulated machine too small for its models: who restarts its engine, and who reports on it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from routing.simulator import limits
from telemetry import waiting
from telemetry.redis_names import EVENTS_IN
from tests.chaos import client
from tests.chaos.engine import Engine

HOST = "sim-box"
LIMIT_MB = 160
GIB = 2**30
REPORT_INTERVAL_S = 0.05  # 20 Hz, as a host is sampled
RESTART_S = 2.0  # what a supervisor and an engine's own start take on a real machine
EVENTS_KEPT = 1000


def options(enforced_by: str | None, speed: float) -> list[str]:
    """Return the simulator's options for such a machine."""
    told = ["--preset", "oom", "--allocate", "--memory-limit-mb", str(LIMIT_MB)]
    told += ["--speed", str(speed)]
    return told if enforced_by is None else [*told, "--limit-by", enforced_by]


@dataclass(slots=True)
class Machine:
    """One engine under a limit that kills, with a neighbour that takes memory of its own."""

    engine: Engine
    neighbour_mb: float = 0.0
    most_used: float = 0.0  # share of the limit
    loads: int = 0
    enforced_by: str = ""
    _told_mb: float = field(default=0.0, init=False)

    @contextlib.asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Restart the engine whenever it dies, until the block ends."""
        task = asyncio.create_task(self._tend())
        try:
            yield
        finally:
            await _stopped(task)

    @contextlib.asynccontextmanager
    async def reported(self, redis_url: str) -> AsyncIterator[None]:
        """Tell the service about this machine's memory 20 times a second, as an agent on it."""
        task = asyncio.create_task(self._report(redis_url))
        try:
            yield
        finally:
            await _stopped(task)

    async def _tend(self) -> None:
        while True:
            if not self.engine.running:
                self.engine.deaths += 1
                await asyncio.sleep(RESTART_S)
                self.engine.start()
                self._told_mb = 0.0
            state = await self.look()
            if state and self._told_mb != self.neighbour_mb:
                body = {"other_mb": self.neighbour_mb}
                url = f"{self.engine.url}/_sim/memory"
                await client.send("PUT", url, json.dumps(body).encode(), 2.0)
                self._told_mb = self.neighbour_mb
            await asyncio.sleep(REPORT_INTERVAL_S)

    async def look(self) -> dict[str, Any] | None:
        """Return what the engine knows of real memory; None while it is dead."""
        state = (await client.get(f"{self.engine.url}/_sim/state", 1.0)).json()
        if not isinstance(state, dict):
            return None
        memory: dict[str, Any] = state["memory"]
        self.enforced_by = memory["enforced_by"]
        self.most_used = max(self.most_used, memory["used_bytes"] / memory["limit_bytes"])
        self.loads = max(self.loads, state["totals"]["loads"])
        return memory

    async def _report(self, redis_url: str) -> None:
        redis = Redis.from_url(redis_url)
        try:
            while True:
                began = time.monotonic()
                event: dict[Any, Any] = {
                    "name": "system.resource_updated",
                    "payload": json.dumps(_report_of(await self.look())),
                }
                await redis.xadd(EVENTS_IN, event, maxlen=EVENTS_KEPT)
                await asyncio.sleep(max(0.0, began + REPORT_INTERVAL_S - time.monotonic()))
        finally:
            await redis.aclose()


def _report_of(memory: dict[str, Any] | None) -> dict[str, Any]:
    """Return the event's payload in the simulated machine's own size; a dead engine uses none."""
    limit, used, scale = LIMIT_MB * 10**6, 0, 0.01
    if memory is not None:
        limit, used, scale = memory["limit_bytes"], memory["used_bytes"], memory["scale"]
    return {
        "host": HOST,
        "memory_total_gb": limit / scale / GIB,
        "memory_available_gb": max(0, limit - used) / scale / GIB,
    }


async def _stopped(task: asyncio.Task[None]) -> None:
    """Cancel the task; what it failed with is raised here."""
    await waiting.end([task])
    if not task.cancelled() and (failed := task.exception()) is not None:
        raise failed


@contextlib.asynccontextmanager
async def running(
    name: str, folder: Path, *, enforced_by: str | None, speed: float
) -> AsyncIterator[Machine]:
    """Yield a fresh machine whose engine is up."""
    engine = Engine(name, folder, options(enforced_by, speed))
    try:
        engine.start()
        engine.wait_ready()
        yield Machine(engine)
    finally:
        engine.kill()
        limits.sweep()

"""Redis and PostgreSQL hang, die and come back under load, while every model server is well."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from orchestra_site.embedded import leash
from orchestra_site.embedded.postgres import Postgres
from orchestra_site.embedded.redis import Redis
from orchestra_site.home import Home
from telemetry.spool.layout import spool_use
from tests.chaos import availability, stage
from tests.chaos.asking import Callers, Tally, Verdict
from tests.chaos.house import House

COMPLETE = Verdict.COMPLETE
DEADLINE_S = 30.0
CALM_S = 1.0  # between outages
RECOVERY_LIMIT_S = 30.0
LOOK_S = 0.5
WORKERS = ("web-0", "web-1", "conductor")


@dataclass(slots=True)
class Outage:
    """One outage: what the service said of itself meanwhile, and what waited in the spool."""

    name: str
    health: set[str] = field(default_factory=set)
    spool_bytes: int = 0
    healthy_after_s: float | None = None  # None: not within the limit


@dataclass(frozen=True, slots=True)
class Result:
    """What all outages came to."""

    tally: Tally
    outages: list[Outage]
    missing: int
    doubled: int
    restarted: list[str]  # workers that are not the ones that began

    @property
    def faults(self) -> list[str]:
        """Return which promises were broken."""
        verdicts = self.tally.verdicts.items()
        found = [f"{verdict}: {count}" for verdict, count in verdicts if verdict is not COMPLETE]
        for outage in self.outages:
            if outage.healthy_after_s is None:
                found.append(f"{outage.name}: not healthy again")
            if outage.name.startswith("Redis") and "degraded" not in outage.health:
                found.append(f"{outage.name}: health said {sorted(outage.health)}")
            if outage.name == "PostgreSQL killed" and not outage.spool_bytes:
                found.append(f"{outage.name}: nothing waited in the spool")
        found += [f"records missing: {self.missing}"] if self.missing else []
        found += [f"records doubled: {self.doubled}"] if self.doubled else []
        return found + [f"{name} was restarted" for name in self.restarted]


class Engines:
    """PostgreSQL and Redis of this rig's own, and what befalls them."""

    def __init__(self, folder: Path) -> None:
        home = Home(folder)
        home.prepare()
        self.postgres, self.redis = Postgres(home), Redis(home)

    async def hang_redis(self, seconds: float) -> None:
        await _hang(self._pids(self.redis), seconds)

    async def hang_postgres(self, seconds: float) -> None:
        await _hang(self._pids(self.postgres), seconds)

    async def kill_redis(self, seconds: float) -> None:
        await self._kill(self.redis, seconds)

    async def kill_postgres(self, seconds: float) -> None:
        await self._kill(self.postgres, seconds)

    async def _kill(self, engine: Postgres | Redis, seconds: float) -> None:
        assert engine.process is not None
        leash.kill(engine.process)
        await asyncio.sleep(seconds)
        # From this thread: the kernel ties a child's life to the thread that started it.
        engine.launch()
        await asyncio.to_thread(engine.wait_ready)

    def _pids(self, engine: Postgres | Redis) -> list[int]:
        assert engine.process is not None
        process = psutil.Process(engine.process.pid)
        return [process.pid, *(child.pid for child in process.children(recursive=True))]


async def _hang(pids: list[int], seconds: float) -> None:
    """Stop the processes for so long; they go on even if this one is killed meanwhile."""
    waking = f"sleep {seconds}; kill -CONT {' '.join(map(str, pids))}"
    waker = await asyncio.create_subprocess_exec(
        "sh", "-c", waking, stderr=asyncio.subprocess.DEVNULL
    )
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(signal.SIGSTOP)
    await waker.wait()


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[Engines]:
    engines = Engines(folder)
    try:
        engines.redis.start()
        engines.postgres.start()
        yield engines
    finally:
        engines.redis.stop()
        engines.postgres.stop()


async def measure(folder: Path, *, rate: float, outage_s: float, seed: int = 1) -> Result:
    """Return what callers got while each engine hung, and then died, for `outage_s` seconds."""
    with _running(folder / "engines") as engines:
        urls = {"DATABASE_URL": engines.postgres.url, "REDIS_URL": engines.redis.url}
        async with stage.playing(folder, round(DEADLINE_S * 1000), **urls) as (home, _):
            workers = _pids(home)
            callers = Callers(home.url, stage.MODELS, DEADLINE_S, seed)
            await callers.warm_up()
            outages = await _under_load(callers, home, engines, rate, outage_s)
            answered = callers.tally.answered
            missing, doubled = await asyncio.to_thread(availability.books, home, answered)
            now = _pids(home)
    restarted = [name for name in WORKERS if workers[name] != now[name]]
    return Result(callers.tally, outages, missing, doubled, restarted)


async def _under_load(
    callers: Callers, home: House, engines: Engines, rate: float, outage_s: float
) -> list[Outage]:
    going = asyncio.Event()
    load = asyncio.create_task(_load(callers, rate, going))
    outages = []
    try:
        for name, happen in (
            ("Redis hangs", engines.hang_redis),
            ("Redis killed", engines.kill_redis),
            ("PostgreSQL hangs", engines.hang_postgres),
            ("PostgreSQL killed", engines.kill_postgres),
        ):
            await asyncio.sleep(CALM_S)
            outages.append(await _watched(name, home, happen(outage_s)))
    finally:
        going.set()
        await load
    return outages


async def _load(callers: Callers, rate: float, over: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        while not over.is_set():
            group.create_task(callers.one())
            await asyncio.sleep(1 / rate)


async def _watched(name: str, home: House, happening: Awaitable[None]) -> Outage:
    """Return the outage with what was seen during it and until the service was well again."""
    outage = Outage(name)
    task = asyncio.ensure_future(happening)
    while not task.done():
        await asyncio.sleep(LOOK_S)
        outage.health.add(await home.health())
        backlog = spool_use(home.live.home.spool).backlog_bytes
        outage.spool_bytes = max(outage.spool_bytes, backlog)
    await task
    began = time.monotonic()
    while time.monotonic() < began + RECOVERY_LIMIT_S:
        if await home.health() == "healthy":
            outage.healthy_after_s = time.monotonic() - began
            break
        await asyncio.sleep(LOOK_S)
    return outage


def _pids(home: House) -> dict[str, int]:
    return {name: home.live.child(name).pid for name in WORKERS}

"""What befalls a service that keeps books: killed processes, a database away, a full disk."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestra_site.embedded import leash
from telemetry.spool.writer import RESERVE_BYTES
from tests.chaos import damage
from tests.chaos.disk import Disk
from tests.chaos.house import House
from tests.chaos.outage import Engines

WEB = ("web-0", "web-1")
SERVICE = (*WEB, "conductor")
ENGINES = ("redis", "postgres")
DOWN_S = 1.0  # of an engine that is killed in passing
NOTICE_LIMIT_S = 20.0
ROOM_BYTES = 2 << 20  # what is left beyond the reserve when the disk begins to fill
FULL_S = 3.0


@dataclass(slots=True)
class Filled:
    """How a full disk was met."""

    said: set[str] = field(default_factory=set)  # what callers were told: code and detail
    recovered: bool = False


@dataclass(slots=True)
class Trouble:
    """One run's misfortunes, by lot."""

    home: House
    engines: Engines
    dice: random.Random
    calm_s: float  # at least, between two kills: a worker needs some of it to come back
    killed: Counter[str] = field(default_factory=Counter)
    away_s: float = 0.0  # PostgreSQL, in sum
    ghosts: int = 0
    spliced: int = 0
    filled: list[Filled] = field(default_factory=list)
    _postgres: asyncio.Lock = field(default_factory=asyncio.Lock)

    def plant(self) -> None:
        """Leave damage among a dead worker's good frames."""
        damage.plant(self.home.live.home.spool, self.ghosts)
        self.ghosts += 1

    async def splice(self) -> None:
        """Leave damage in the segment of a worker that lives."""
        deadline = time.monotonic() + NOTICE_LIMIT_S
        while not self.spliced and time.monotonic() < deadline:
            for name in WEB:
                if not self.spliced:
                    self.spliced += damage.splice(self.home.live.home.spool / name)
            await asyncio.sleep(0.1)

    async def kill_around(self, victims: Sequence[str], over: asyncio.Event) -> None:
        """Kill one after the other until `over`."""
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), self.dice.uniform(self.calm_s, 4 * self.calm_s))
                return
            await self._kill(self.dice.choice(victims))

    async def _kill(self, name: str) -> None:
        if name in SERVICE:
            with contextlib.suppress(LookupError):  # not back yet
                self.home.live.child(name).kill()
                self.killed[name] += 1
        elif name == "redis":
            self.killed[name] += 1
            await self.engines.kill_redis(DOWN_S)
        elif not self._postgres.locked():
            await self.leave(DOWN_S)

    async def leave(self, seconds: float) -> None:
        """Kill PostgreSQL and start it again so much later."""
        async with self._postgres:
            began = time.monotonic()
            self.killed["postgres"] += 1
            await self.engines.kill_postgres(seconds)
            self.away_s += time.monotonic() - began

    async def end_workers(self) -> None:
        """Kill the web workers at the end: what they hold must not stay held."""
        for name in WEB:
            await self._kill(name)

    async def fill_at_once(self, disk: Disk) -> None:
        """Take all of the disk from under the requests; PostgreSQL is there."""
        filled = Filled()
        self.filled.append(filled)
        disk.leave(0)
        await self._refused(filled)
        await asyncio.sleep(FULL_S)
        disk.clear()
        await self._welcome(filled)

    async def fill_slowly(self, disk: Disk) -> None:
        """Let records fill the disk while PostgreSQL is away; then take the reserve as well."""
        filled = Filled()
        self.filled.append(filled)
        async with self._postgres:
            began = time.monotonic()
            self.killed["postgres"] += 1
            assert self.engines.postgres.process is not None
            leash.kill(self.engines.postgres.process)
            disk.leave(RESERVE_BYTES + ROOM_BYTES)
            await self._refused(filled)
            disk.leave(0)
            await self._kill(self.dice.choice(WEB))  # it must come back on a full disk
            await asyncio.sleep(FULL_S)
            self.engines.postgres.launch()
            await asyncio.to_thread(self.engines.postgres.wait_ready)
            self.away_s += time.monotonic() - began
            await asyncio.sleep(FULL_S)
        disk.clear()
        await self._welcome(filled)

    async def _refused(self, filled: Filled) -> None:
        """Return when callers are told of the disk, or nobody is within the limit."""
        deadline = time.monotonic() + NOTICE_LIMIT_S
        while time.monotonic() < deadline:
            seen = await self.home.select({"taskType": "completion"})
            found = seen.json()
            detail = str(found.get("detail")) if isinstance(found, dict) else ""
            # A worker that has just come back may have other reasons.
            if seen.status == 503 and "disk" in detail:
                filled.said.add(f"{found['code']}: {detail}")
                return
            await asyncio.sleep(0.1)

    async def _welcome(self, filled: Filled) -> None:
        deadline = time.monotonic() + NOTICE_LIMIT_S
        while not filled.recovered and time.monotonic() < deadline:
            filled.recovered = (await self.home.select({"taskType": "completion"})).status == 200
            await asyncio.sleep(0.1)

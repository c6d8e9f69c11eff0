"""Several workers over one Redis, each with its news, as on one node or on many."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis

from routing.coordination.breakers import ProbeClaims
from routing.engine.catalog import PolicyDocument
from routing.engine.state import OfferingState
from routing.lanes.bus import StateBus
from routing.lanes.probing import FleetProbes
from telemetry import waiting
from tests.lanes.stage import Stage, staged

OFFERING = "alpha:1b@sim"


def live(stage: Stage) -> OfferingState:
    return stage.runtime.state.offerings[OFFERING]


def states(stages: Sequence[Stage]) -> list[str]:
    return [live(stage).breaker.state.value for stage in stages]


def is_over(stages: Sequence[Stage]) -> None:
    """Let the open time of every worker's breaker be over, without anybody being told."""
    for stage in stages:
        live(stage).breaker.open_until = stage.runtime.clock() - 0.001


@asynccontextmanager
async def worker(directory: Path, policy: PolicyDocument, redis_url: str) -> AsyncIterator[Stage]:
    """A stage whose runtime tells and hears news; every one is called `web-0`."""
    async with staged(directory, policy) as stage:
        runtime = stage.runtime
        bus = StateBus(redis_url, runtime.hear)
        probes = FleetProbes(ProbeClaims(redis_url, runtime.identity), bus)
        runtime.breaker_news, runtime.fleet_time = bus.tell, bus.fleet_time
        runtime.allow_probe = probes.allow
        tasks = [asyncio.create_task(bus.listen()), asyncio.create_task(bus.speak())]
        try:
            yield stage
        finally:
            await waiting.end(tasks)
            await probes.close()


async def listening(redis_url: str, count: int) -> None:
    """Return when so many workers hear news."""
    async with Redis.from_url(redis_url) as client:
        end = asyncio.get_running_loop().time() + 5
        while (await client.pubsub_numsub("ai-orchestra:state"))[0][1] < count:
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.01)


class Line:
    """A way to Redis that can be cut: the URL of its near end, and everybody who talks over it."""

    def __init__(self, near: Path, redis_url: str) -> None:
        self.url = f"unix://{near}"
        self._near = near
        self._far = redis_url.removeprefix("unix://").partition("?")[0]
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._talk, self._near)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._near.unlink(missing_ok=True)
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0)

    aclose = cut

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._far)
        self._open |= {writer, far_writer}
        pumps = [
            asyncio.create_task(_pump(source, sink))
            for source, sink in ((reader, far_writer), (far_reader, writer))
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for one in (writer, far_writer):
            self._open.discard(one)
            one.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()

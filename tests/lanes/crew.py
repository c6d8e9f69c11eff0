"""Several workers at one machine whose models do not all fit its memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from routing.coordination.reservations import Reservations
from routing.lanes.bus import StateBus
from routing.lanes.loading import ensure_loaded
from routing.lanes.runtime import Runtime
from routing.simulator.models import Catalogue, HostSpec
from telemetry import waiting
from telemetry.recorder import Recorder
from telemetry.sampler import HostSample
from telemetry.state_news import LoadNews, StateNews, UnloadNews
from tests.cast import document, model, simulated
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.stage import at

GB = 10**9
TOTAL_GB = 10.0
NEED_GB = 2.0  # of each model: 1 GB of weights and the surcharge
NAMES = tuple(f"m{i}:1b" for i in range(5))
MODELS = tuple(model(name, ram_required_gb=NEED_GB) for name in NAMES)
SIMULATED = tuple(
    msgspec.structs.replace(simulated(name, "completion"), load_time_s=0.15) for name in NAMES
)


def sample(available_gb: float) -> HostSample:
    used = 1 - available_gb / TOTAL_GB
    return HostSample(
        available_gb=available_gb,
        free_gb=available_gb,
        total_gb=TOTAL_GB,
        pressure=used,
        cpu_percent=0,
        swap_percent=0,
        at=0,
    )


@pytest.fixture
def box(start_simulator: StartSimulator) -> SimulatedHost:
    spec = HostSpec(memory_gb=64, keep_alive_s=-1, max_loaded=10)
    return start_simulator(Catalogue(host=spec, models=SIMULATED))


class Crew:
    """Workers on one machine, whose memory is what the simulator leaves of ten gigabytes."""

    def __init__(self, directory: Path, redis_url: str, box: SimulatedHost) -> None:
        self.directory, self.redis_url, self.box = directory, redis_url, box
        self.workers: list[Runtime] = []
        self.news: list[StateNews] = []
        self.most_used_gb = 0.0
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def free_gb(self) -> float:
        return TOTAL_GB - self.box.sim.host.used_bytes / GB

    def worker(self, *, redis_url: str | None = None, **endpoint: Any) -> Runtime:
        name = f"web-{len(self.workers)}"
        made = Runtime(
            recorder=Recorder(self.directory / name, name),
            resolve_secret=lambda ref: "",
            worker=name,
        )
        made.reservations = Reservations(redis_url or self.redis_url)
        made.see_local_host(sample(self.free_gb))
        spec = at(self.box.url, host="local", **{"min_residency_s": 0.0, **endpoint})
        made.adopt(document(MODELS, (spec,)))
        bus = StateBus(self.redis_url, made.hear)

        def tell(news: LoadNews | UnloadNews) -> None:
            self.news.append(news)
            bus.tell(news)

        made.load_news = tell
        self.tasks += [asyncio.create_task(bus.listen()), asyncio.create_task(bus.speak())]
        self.workers.append(made)
        return made

    async def measure(self) -> None:
        while True:
            self.most_used_gb = max(self.most_used_gb, TOTAL_GB - self.free_gb)
            for worker in self.workers:
                worker.see_local_host(sample(self.free_gb))
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        # Between two commands: redis-py swallows a cancellation that meets the end of a write.
        await asyncio.sleep(0.05)
        await waiting.end(self.tasks)
        for worker in self.workers:
            await worker.close()


@pytest.fixture
async def crew(tmp_path: Path, redis_url: str, box: SimulatedHost) -> AsyncIterator[Crew]:
    made = Crew(tmp_path, redis_url, box)
    made.tasks.append(asyncio.create_task(made.measure()))
    yield made
    await made.end()


async def load(worker: Runtime, name: str, **how: Any) -> None:
    candidate = worker.policy.by_id[f"{name}@sim"]
    live = worker.live(candidate)
    assert live is not None
    told = {"deadline": worker.clock() + 15, **how}
    await ensure_loaded(worker, candidate, live, **told)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not happened():  # noqa: ASYNC110  news tell nobody that they were heard
            await asyncio.sleep(0.01)


def told(news: Iterable[StateNews], state: str) -> list[str]:
    return [n.model for n in news if isinstance(n, LoadNews) and n.state == state]

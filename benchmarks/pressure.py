"""From a change in a source of memory figures to the first decision that respects it, in ms.

`here`: a file of a made-up /proc changes under a worker that looks at its host 20 times a second.
`elsewhere`: the same under an agent, through Redis, a conductor's intake and the state channel.
"""

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from orchestra_site.embedded.redis import Redis as EmbeddedRedis
from orchestra_site.home import Home
from routing.engine.catalog import EndpointSpec, ModelSpec, OfferingSpec, PolicyDocument
from routing.engine.decide import decide
from routing.engine.errors import NoCandidate
from routing.engine.need import Need
from routing.lanes import service
from telemetry.agent import Agent
from telemetry.agent_ollama import OllamaWatch
from telemetry.event_intake import EventIntake
from telemetry.sampler import Sampler, sample

CHANGES = 200
DEADLINE_S = 2.0
LOOK_S = 0.0005
KIB_TOTAL = 16 << 20
MEMINFO = "MemTotal: {} kB\nMemFree: {} kB\nMemAvailable: {} kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"


def policy() -> PolicyDocument:
    """Return two models, one on this host and one on `far`, each of which needs 4 GB."""
    places = {"here": "local", "there": "far"}
    return PolicyDocument(
        models=tuple(
            ModelSpec(
                name=name, capabilities=("code",), quality_tier="good", speed="fast",
                ram_required_gb=4, context_length=8192,
            )
            for name in places
        ),
        endpoints=tuple(
            EndpointSpec(name=n, provider="ollama", base_url="http://127.0.0.1:9", host=h)
            for n, h in places.items()
        ),
        offerings=tuple(OfferingSpec(model=name, endpoint=name) for name in places),
    )  # fmt: skip


class Machine:
    """A /proc of its own, without limits."""

    def __init__(self, root: Path) -> None:
        self.proc = root
        (root / "stat").write_text("cpu  1 0 1 7 1 0 0 0\n")
        self.free(True)

    def free(self, roomy: bool) -> None:
        """Have plenty of memory, or next to none."""
        kib = KIB_TOTAL // 2 if roomy else KIB_TOTAL // 50
        # In place, as /proc is: one write, which a reader sees whole or not at all.
        with (self.proc / "meminfo").open("r+" if (self.proc / "meminfo").exists() else "w") as f:
            f.write(MEMINFO.format(KIB_TOTAL, f"{kib:9d}", f"{kib:9d}"))

    def sampler(self) -> Sampler:
        return Sampler(self.proc, self.proc / "cgroup", self.proc / "own")


async def measure(redis_url: str, changes: int = CHANGES) -> list[dict[str, Any]]:
    """Return a row for each place: median, p99 and longest, in ms."""
    folder = Path(tempfile.mkdtemp(prefix="orchestra-pressure-"))
    try:
        async with AsyncExitStack() as stack:
            return await _measure(stack, redis_url, folder, changes)
    finally:
        service.sample = sample  # type: ignore[attr-defined]
        shutil.rmtree(folder)


async def _measure(
    stack: AsyncExitStack, redis_url: str, folder: Path, changes: int
) -> list[dict[str, Any]]:
    machines = {}
    for name in ("here", "there"):
        (folder / name).mkdir()
        machines[name] = Machine(folder / name)
    service.sample = machines["here"].sampler().sample  # type: ignore[attr-defined]
    plane = service.DataPlane(
        redis_url=redis_url,
        spool_dir=folder,
        worker="bench",
        resolve_secret=lambda ref: "",
        secret="s" * 50,
        idempotency_ttl_s=600,
    )
    await plane.start()
    stack.push_async_callback(plane.stop)
    plane.runtime.adopt(policy())
    redis = await stack.enter_async_context(Redis.from_url(redis_url, socket_timeout=5))
    stop = asyncio.Event()
    ollama = OllamaWatch("http://127.0.0.1:9", 1.0)
    agent = Agent(redis, machines["there"].sampler(), ollama, "far", 1.0)
    jobs = [asyncio.create_task(j(stop)) for j in (EventIntake(redis, "bench").run, agent.run)]
    stack.push_async_callback(asyncio.wait, jobs)
    stack.callback(stop.set)
    rows = []
    for name, machine in machines.items():
        waits = await _waits(machine, _admits(plane.runtime, name), changes)
        rows.append(_row(name, waits))
    return rows


def _admits(runtime: Any, model: str) -> Callable[[], bool]:
    need = Need(task="code", model=model, prompt_tokens=10, max_tokens=10)

    def admits() -> bool:
        try:
            decide(runtime.policy, runtime.state, need, runtime.clock())
        except NoCandidate:
            return False
        return True

    return admits


async def _waits(machine: Machine, admits: Callable[[], bool], changes: int) -> list[float]:
    dice = random.Random(7)  # noqa: S311  moments only
    machine.free(True)
    await _until(admits, True)
    waits = []
    for number in range(changes):
        await asyncio.sleep(dice.uniform(0, 0.1))
        roomy = bool(number % 2)
        began = time.perf_counter()
        machine.free(roomy)
        await _until(admits, roomy)
        waits.append(1000 * (time.perf_counter() - began))
    return sorted(waits)


async def _until(admits: Callable[[], bool], wanted: bool) -> None:
    async with asyncio.timeout(DEADLINE_S):
        found = admits()
        while found is not wanted:
            await asyncio.sleep(LOOK_S)
            found = admits()


def _row(place: str, waits: list[float]) -> dict[str, Any]:
    p99 = waits[min(len(waits) - 1, int(0.99 * len(waits)))]
    figures = {"p50_ms": waits[len(waits) // 2], "p99_ms": p99, "longest_ms": waits[-1]}
    return {"change": place, "changes": len(waits)} | {k: round(v, 1) for k, v in figures.items()}


def run() -> list[dict[str, Any]]:
    """Measure against an embedded Redis of its own."""
    folder = Path(tempfile.mkdtemp(prefix="orchestra-bench-"))
    home = Home(folder)
    home.prepare()
    store = EmbeddedRedis(home)
    try:
        store.start()
        return asyncio.run(measure(store.url))
    finally:
        store.stop()
        shutil.rmtree(folder, ignore_errors=True)

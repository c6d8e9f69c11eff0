"""Places shared by workers over a real Redis: taken without asking, and never too many at once."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from routing.coordination import slots as module
from routing.coordination.slots import TTL_S, SlotKeeper
from routing.engine.concurrency import Outcome
from routing.engine.slots import Slots
from telemetry import waiting
from tests.waiting import soon

DEAD = "redis://127.0.0.1:1/0"


class Worker:
    """A keeper, its places, and a busy life of using them."""

    def __init__(self, keeper: SlotKeeper, slots: Slots) -> None:
        self.keeper, self.slots = keeper, slots
        self.served = 0
        self.longest_s = 0.0
        self._more = asyncio.Event()
        keeper.changed = lambda endpoint: self._more.set()

    async def use(self, running: list[int], for_s: float, each_s: float) -> None:
        """Make calls one after another for a while; `running` counts all workers'."""
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            await self._take()
            running[0] += 1
            running[1] = max(running[1:2] + running[:1])
            await asyncio.sleep(each_s)
            running[0] -= 1
            self.slots.give(time.monotonic(), "m@e", None)
            self.served += 1
            if self.slots.urgent:
                self.keeper.hurry("e")

    async def _take(self) -> None:
        asked = time.monotonic()
        self.slots.waiting += 1
        while self.slots.free(time.monotonic()) <= 0:
            self.keeper.hurry("e")
            self._more.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), 0.05)
        self.slots.waiting -= 1
        self.slots.take(time.monotonic())
        self.longest_s = max(self.longest_s, time.monotonic() - asked)


@asynccontextmanager
async def worker(redis_url: str, name: str, limit: int | None) -> AsyncIterator[Worker]:
    keeper = SlotKeeper(redis_url, name)
    slots = Slots("e", "ollama", limit, shared=True)
    keeper.keep(slots, "ollama")
    tasks = [asyncio.create_task(keeper.run()), asyncio.create_task(keeper.listen())]
    try:
        yield Worker(keeper, slots)
    finally:
        await waiting.end(tasks)


async def test_two_workers_on_one_place_take_turns(redis_url: str) -> None:
    running = [0, 0]
    async with worker(redis_url, "a", 1) as a, worker(redis_url, "b", 1) as b:
        await asyncio.gather(a.use(running, 1.0, 0.01), b.use(running, 1.0, 0.01))
    assert running[1] == 1
    assert min(a.served, b.served) >= 15
    assert max(a.longest_s, b.longest_s) < 0.3


async def test_two_workers_share_many_places_evenly(redis_url: str) -> None:
    running = [0, 0]
    async with worker(redis_url, "a", 8) as a, worker(redis_url, "b", 8) as b:
        await asyncio.gather(
            *(w.use(running, 1.0, 0.005) for w in (a, b) for _ in range(8)),
        )
        assert a.slots.leased + b.slots.leased <= 8
    assert running[1] <= 8
    assert 0.5 < a.served / b.served < 2


async def test_busy_workers_come_down_to_a_limit_that_was_cut(redis_url: str) -> None:
    running = [0, 0]
    async with worker(redis_url, "a", None) as a, worker(redis_url, "b", None) as b:
        slots = (a.slots, b.slots)
        for one in slots:
            one.signals.saturated = True
        callers = [asyncio.create_task(side.use(running, 3.0, 0.05)) for side in (a, b) * 8]
        await soon(lambda: running[0] >= 4)
        # Half of the time, every call complains of having waited.
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            for one in slots:
                one.signals.see("m@e", Outcome(queued_ms=500.0, busy_ms=50.0))
            await asyncio.sleep(0.02)
        running[1] = 0
        await asyncio.sleep(0.5)
        limit = max(one.limit for one in slots)
        assert limit < 4
        assert running[1] <= limit
        await asyncio.gather(*callers)


async def test_who_is_alone_waits_for_redis_once_only(redis_url: str) -> None:
    async with worker(redis_url, "a", 8) as a:
        await a.use([0, 0], 0.05, 0.001)
        a.longest_s = 0.0
        await a.use([0, 0], 0.5, 0.001)
        assert a.slots.leased > 1
        assert a.longest_s < 0.02


async def test_what_nobody_uses_is_given_back(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.1)
    async with worker(redis_url, "a", 8) as a:
        await a.use([0, 0], 0.05, 0.001)
        assert a.slots.leased > 0
        await soon(lambda: a.slots.leased == 0, 5)


async def test_without_redis_each_takes_an_equal_share() -> None:
    async with worker(DEAD, "a", 8) as a:
        a.slots.workers = 2
        await soon(lambda: a.slots.degraded, 5)
        assert a.slots.leased == 4
        await a.use([0, 0], 0.05, 0.001)
        assert a.served > 1


HOLD = """
import asyncio, sys, time
from routing.coordination.slots import SlotKeeper
from routing.engine.concurrency import Outcome
from routing.engine.slots import Slots

async def main():
    keeper, slots = SlotKeeper(sys.argv[1], "doomed"), Slots("e", "ollama", 1, shared=True)
    slots.waiting = 1
    keeper.keep(slots, "ollama")
    task = asyncio.create_task(keeper.run())
    while slots.free(time.monotonic()) <= 0:
        await asyncio.sleep(0.01)
    slots.waiting = 0
    slots.take(time.monotonic())
    print("held", flush=True)
    await task

asyncio.run(main())
"""


async def test_a_killed_worker_gives_its_place_up_in_time(redis_url: str, tmp_path: Path) -> None:
    script = tmp_path / "hold.py"
    script.write_text(HOLD)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    held = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, str(script), redis_url],
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        assert held.stdout is not None
        assert await asyncio.to_thread(held.stdout.readline) == b"held\n"
        async with worker(redis_url, "a", 1) as a:
            task = asyncio.create_task(a.use([0, 0], 0.01, 0.001))
            await asyncio.sleep(0.3)
            assert a.served == 0
            held.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            await asyncio.wait_for(task, TTL_S + 3)
            assert a.served >= 0
            assert time.monotonic() - killed < TTL_S + 1.5
    finally:
        held.kill()
        held.wait(5)
        assert held.stdout is not None
        held.stdout.close()


async def test_long_answers_that_begin_at_once_open_more_places(redis_url: str) -> None:
    """A stream holds its place for minutes; that it began promptly is all it says of them."""
    async with worker(redis_url, "a", None) as a:
        began = time.monotonic()
        for _ in range(100):
            await a._take()
            a.slots.begun("m@e", 5.0)
        assert time.monotonic() - began < 5
        assert (a.slots.in_use, a.slots.settled) == (100, False)

"""The simulated machine: which models are loaded, who waits for one, who must leave.

Ollama's scheduler in small. One request at a time passes its gate; a request whose model has to
be loaded, or that waits for another to leave, holds the gate meanwhile, so that even requests to
loaded models queue behind it (ollama issue 5724). Past the gate a model serves `slots` at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from routing.simulator.memory import Block, Memory, Nothing, Pretended
from routing.simulator.models import HostSpec, Model

FITS_FRACTION = 0.8  # of the free memory; what Ollama accepts beside loaded models


class HostRefusal(Exception):
    """Raised when the host cannot serve a request; carries Ollama's status and words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True, eq=False)
class Runner:
    """A loaded model; `refs` are the requests that hold it, `active` those being answered."""

    model: Model
    num_ctx: int
    need_bytes: int
    keep_alive_s: float
    block: Block = field(default_factory=Nothing)
    refs: int = 0
    active: int = 0
    idle_since: float = 0.0
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def expires_in_s(self, now: float) -> float:
        """Return seconds until it is unloaded, infinite for a negative keep-alive."""
        if self.keep_alive_s < 0:
            return float("inf")
        return self.keep_alive_s - (0.0 if self.refs else now - self.idle_since)

    def has_expired(self, now: float) -> bool:
        return self.refs == 0 and self.expires_in_s(now) <= 0


@dataclass(slots=True)
class Totals:
    """What the host did since it started."""

    loads: int = 0
    evictions: int = 0
    refused: int = 0
    served: int = 0


class Host:
    """Memory and scheduling of one simulated machine; for use inside one event loop."""

    def __init__(self, spec: HostSpec, speed: float = 1.0, memory: Memory | None = None) -> None:
        self.spec = spec
        self.memory: Memory = memory or Pretended()
        self.totals = Totals()
        self.waiting = 0
        self._speed = speed  # times are divided by it; infinite: no time passes
        self._runners: dict[str, Runner] = {}
        self._gate = asyncio.Lock()

    def loaded(self) -> list[Runner]:
        """Return what is in memory, longest to stay first, as /api/ps lists it."""
        self._drop_expired()
        now = time.monotonic()
        return sorted(self._runners.values(), key=lambda runner: -runner.expires_in_s(now))

    def expires_in_s(self, runner: Runner) -> float:
        return runner.expires_in_s(time.monotonic())

    @property
    def used_bytes(self) -> int:
        return sum(runner.need_bytes for runner in self._runners.values())

    def try_acquire(self, model: Model, num_ctx: int, keep_alive_s: float | None) -> Runner | None:
        """Return a slot of a loaded model at once, or None if the request has to queue."""
        runner = self._runners.get(model.name)
        if runner is None or runner.num_ctx != num_ctx or runner.active >= model.slots:
            return None
        if self._gate.locked() or runner.has_expired(time.monotonic()):
            return None
        self._hold(runner, keep_alive_s)
        runner.active += 1
        return runner

    async def acquire(
        self,
        model: Model,
        num_ctx: int,
        keep_alive_s: float | None,
        loaded: Callable[[], None] = lambda: None,
    ) -> Runner:
        """Return a slot, loading the model if need be; the caller must `release` it.

        `loaded` is called once the model is in memory: waiting for a slot comes after it.
        Raises HostRefusal: 503 when the queue is full, 500 when the model can never fit.
        """
        if self.waiting >= self.spec.max_queue:
            self.totals.refused += 1
            raise HostRefusal(
                503, "server busy, please try again.  maximum pending requests exceeded"
            )
        self.waiting += 1
        try:
            async with self._gate:
                runner = await self._runner_for(model, num_ctx)
                self._hold(runner, keep_alive_s)
            loaded()
            await self._take_slot(runner)
        finally:
            self.waiting -= 1
        return runner

    def release(self, runner: Runner) -> None:
        """Give a slot back; the next waiter takes it over."""
        self.totals.served += 1
        self._free_slot(runner)
        self._drop_hold(runner)

    def unload(self, model: Model) -> None:
        """Unload the model once its requests are done, as `keep_alive: 0` asks; no-op if cold."""
        runner = self._runners.get(model.name)
        if runner is not None:
            runner.keep_alive_s = 0.0
            self._drop_expired()

    def _hold(self, runner: Runner, keep_alive_s: float | None) -> None:
        runner.refs += 1
        runner.idle.clear()
        if keep_alive_s is not None:
            runner.keep_alive_s = keep_alive_s

    def _drop_hold(self, runner: Runner) -> None:
        runner.refs -= 1
        if runner.refs == 0:
            runner.idle_since = time.monotonic()
            runner.idle.set()
            self._drop_expired()

    async def _take_slot(self, runner: Runner) -> None:
        if runner.active < runner.model.slots:
            runner.active += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        runner.waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in runner.waiters:
                runner.waiters.remove(turn)
            elif turn.done() and not turn.cancelled():
                # The slot was handed over in the same moment; it must not be lost.
                self._free_slot(runner)
            self._drop_hold(runner)
            raise

    @staticmethod
    def _free_slot(runner: Runner) -> None:
        """Hand the slot to whoever waits longest, so that no newcomer can slip in between."""
        while runner.waiters:
            turn = runner.waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        runner.active -= 1

    async def _runner_for(self, model: Model, num_ctx: int) -> Runner:
        self._drop_expired()
        runner = self._runners.get(model.name)
        if runner is not None and runner.num_ctx == num_ctx:
            return runner
        if runner is not None:
            # Ollama reloads a model whose load options changed.
            await self._evict(runner)
        need_bytes = model.memory_bytes(num_ctx)
        await self._make_room(need_bytes)
        # It takes what it really needs, which its prediction may fall short of.
        block = await self.memory.load(
            round(need_bytes * model.real_factor), model.load_s / self._speed
        )
        self.totals.loads += 1
        keep_alive_s, now = self.spec.keep_alive_s, time.monotonic()
        runner = Runner(model, num_ctx, need_bytes, keep_alive_s, block, idle_since=now)
        self._runners[model.name] = runner
        return runner

    async def _make_room(self, need_bytes: int) -> None:
        if need_bytes > self.spec.memory_bytes:
            need, there = (amount / 2**30 for amount in (need_bytes, self.spec.memory_bytes))
            raise HostRefusal(
                500,
                f"model requires more system memory ({need:.1f} GiB)"
                f" than is available ({there:.1f} GiB)",
            )
        while self._runners and not self._fits(need_bytes):
            self.totals.evictions += 1
            await self._evict(self._victim())

    def _fits(self, need_bytes: int) -> bool:
        free = self.spec.memory_bytes - self.used_bytes
        return len(self._runners) < self.spec.max_loaded and need_bytes <= FITS_FRACTION * free

    def _victim(self) -> Runner:
        """Return who leaves: idle before busy, then the shortest keep-alive, then the oldest."""

        def rank(runner: Runner) -> tuple[bool, float, float]:
            keep = runner.keep_alive_s if runner.keep_alive_s >= 0 else float("inf")
            return runner.refs > 0, keep, runner.idle_since

        return min(self._runners.values(), key=rank)

    async def _evict(self, runner: Runner) -> None:
        if runner.refs:
            await runner.idle.wait()
        self._remove(runner)

    def _remove(self, runner: Runner) -> None:
        self._runners.pop(runner.model.name, None)
        runner.block.free()

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for runner in list(self._runners.values()):
            if runner.has_expired(now):
                self._remove(runner)

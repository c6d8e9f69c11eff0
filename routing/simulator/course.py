"""The course of one request: fault, queue, load, prompt, answer; whatever the protocol."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from routing.simulator.faults import Fault, FaultBoard
from routing.simulator.host import Host, HostRefusal, Runner
from routing.simulator.memory import Memory
from routing.simulator.models import Catalogue, Model, canonical
from routing.simulator.wire import HTML, JSON, Call, encode

HTML_PAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\n"
)


class Refused(Exception):
    """Raised when a request is answered with an error; status and text are Ollama's own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Simulator:
    """What all requests of one simulated server share."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        speed: float = 1.0,
        instant: bool = False,
        seed: int = 0,
        memory: Memory | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.models = catalogue.by_name()
        self.instant = instant
        self.speed = float("inf") if instant else speed
        self.host = Host(catalogue.host, self.speed, memory)
        self.faults = FaultBoard(seed)
        self.cancelled = 0

    def find(self, name: str) -> Model:
        """Return the model; raises Refused in Ollama's words (400 nameless, 404 unknown)."""
        if not name:
            raise Refused(400, "model is required")
        model = self.models.get(canonical(name))
        if model is None:
            raise Refused(404, f"model '{name}' not found")
        return model


@dataclass(frozen=True, slots=True)
class Times:
    """Where the time of an answer went, in nanoseconds."""

    total: int
    load: int
    prompt: int
    generate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a request asks of the host."""

    model: Model
    num_ctx: int
    keep_alive_s: float | None = None  # None: leave it as it is; negative: for ever
    prompt_tokens: int = 0


class Errors(Protocol):
    """How a protocol writes an error: inside a 200, and as the body of an error status."""

    def error_line(self, message: str) -> bytes: ...
    def error_body(self, status: int, message: str) -> bytes: ...


class Course(ABC):
    """Carries one job through; `run` answers the call in every case."""

    def __init__(self, sim: Simulator, call: Call, job: Job, errors: Errors) -> None:
        self.sim = sim
        self.call = call
        self.job = job
        self.errors = errors
        self.fault: Fault | None = None
        # In order: asked, its model there, its turn, its prompt read.
        self.began_ns = self.loaded_ns = self.started_ns = self.read_ns = time.perf_counter_ns()

    async def run(self) -> None:
        struck, self.fault = await strike(self.sim, self.call, self.errors, self.job.model.name)
        if struck:
            return
        try:
            runner = await self._runner()
        except HostRefusal as exc:
            body = self.errors.error_body(exc.status, exc.message)
            await self.call.reply(exc.status, body)
            return
        job = self.job
        work = self.sim.host.memory.grow(job.model.growth_bytes(job.prompt_tokens))
        try:
            await self._read_prompt()
            await self._answer()
        finally:
            work.free()
            self.sim.host.release(runner)

    @abstractmethod
    async def _answer(self) -> None:
        """Send the answer, spoilt by `self.fault` if there is one."""

    async def _runner(self) -> Runner:
        job, host = self.job, self.sim.host
        runner = host.try_acquire(job.model, job.num_ctx, job.keep_alive_s)
        if runner is None:
            runner = await host.acquire(job.model, job.num_ctx, job.keep_alive_s, self._loaded)
        else:
            self._loaded()
        self.started_ns = time.perf_counter_ns()
        return runner

    def _loaded(self) -> None:
        self.loaded_ns = time.perf_counter_ns()

    async def _read_prompt(self) -> None:
        if self.job.prompt_tokens and not self.sim.instant:
            pace = self.job.model.prompt_tokens_per_s * self.sim.speed
            await asyncio.sleep(self.job.prompt_tokens / pace)
        self.read_ns = time.perf_counter_ns()

    def times(self) -> Times:
        now = time.perf_counter_ns()
        return Times(
            total=now - self.began_ns,
            load=self.loaded_ns - self.began_ns,
            prompt=self.read_ns - self.started_ns,
            generate=now - self.read_ns,
        )


class Reply(Course):
    """A job answered by one body without generating text: a load, an embedding."""

    def __init__(
        self,
        sim: Simulator,
        call: Call,
        job: Job,
        errors: Errors,
        body: Callable[[Times], Any],
    ) -> None:
        super().__init__(sim, call, job, errors)
        self._body = body

    async def _answer(self) -> None:
        body = encode(self._body(self.times()))
        await send_whole(self.call, body, self.fault, self.errors)


async def report(sim: Simulator, call: Call, errors: Errors, value: Any) -> None:
    """Answer a request that needs no model, faults included."""
    struck, fault = await strike(sim, call, errors, "")
    if not struck:
        await send_whole(call, encode(value), fault, errors)


async def strike(
    sim: Simulator, call: Call, errors: Errors, model: str
) -> tuple[bool, Fault | None]:
    """Draw this request's fault and wait out its delays; True if the call is over with it."""
    if not sim.faults.rules:
        return False, None
    delay_s, fault = sim.faults.strike(call.path, model)
    if delay_s:
        await asyncio.sleep(delay_s)
    return fault is not None and await _fail_opening(call, fault, errors), fault


async def _fail_opening(call: Call, fault: Fault, errors: Errors) -> bool:
    """Carry out a fault that leaves no answer at all; False if it strikes later."""
    if fault.kind == "http_error":
        wait = fault.retry_after_s
        more = [] if wait is None else [(b"retry-after", str(wait).encode())]
        body = errors.error_body(fault.status, fault.message)
        body = body if fault.body is None else fault.body.encode()
        await call.reply(fault.status, body, JSON, more)
    elif fault.kind == "html":
        body = HTML_PAGE if fault.body is None else fault.body.encode()
        await call.reply(fault.status, body, HTML)
    elif fault.kind == "silence" and fault.after_tokens == 0:
        await call.fall_silent()
    elif fault.kind == "reset" and fault.after_tokens == 0:
        await call.reset()
    else:
        return False
    return True


async def send_whole(call: Call, body: bytes, fault: Fault | None, errors: Errors) -> None:
    """Send an answer that is one JSON body, spoilt by the fault if there is one."""
    if fault is None or fault.kind == "no_end":
        await call.reply(200, body)
    elif fault.kind == "malformed_json":
        await call.reply(200, body[:-2] + b",")
    elif fault.kind == "error_line":
        await call.reply(200, errors.error_line(fault.message).strip())
    elif fault.kind == "silence":
        await call.fall_silent()
    elif fault.kind == "reset":
        await call.reset()
    else:
        await call.start(200, JSON, len(body))
        await call.write(body[: len(body) // 2])
        await call.cut()

"""A lane door on a runtime of its own, driven in-process, and what it was heard to say."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from routing.engine.catalog import EndpointSpec, PolicyDocument
from routing.lanes.door import LaneDoor
from routing.lanes.doorkeeper import Doorkeeper
from routing.lanes.runtime import Runtime
from telemetry.record import RequestRecord
from telemetry.recorder import Recorder
from telemetry.sampler import HostSample
from telemetry.spool import SpoolReader
from tests.cast import DIGEST_KEY, document

SELECT = "/api/v1/ai/select-model"
ROUTE = "/api/v1/ai/route-request"
CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
ROOMY = HostSample(
    available_gb=48,
    free_gb=40,
    total_gb=64,
    pressure=0.25,
    cpu_percent=12.5,
    swap_percent=0,
    at=0,
)


@dataclass
class Heard:
    """An answer as the ASGI server would have sent it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; `[DONE]` as text."""
        told = [part.removeprefix(b"data: ") for part in self.body.split(b"\n\n") if part]
        return ["[DONE]" if data == b"[DONE]" else msgspec.json.decode(data) for data in told]

    async def take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status
            self.status = message["status"]
            self.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
        else:
            assert self.status
            assert not self.ended
            self.chunks.append(message.get("body", b""))
            self.ended = not message.get("more_body", False)


class Caller:
    """The other side of a connection: sends its request in parts, and leaves when told."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self._gone = asyncio.Event()

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> Any:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self._gone.wait()
        return {"type": "http.disconnect"}


@dataclass
class Stage:
    """A door, its runtime, and the spool that its records go to."""

    runtime: Runtime
    door: LaneDoor
    spool: Path
    reader: SpoolReader

    def records(self) -> list[RequestRecord]:
        """Return the records kept since the last time."""
        batch = self.reader.read()
        self.reader.release(batch)
        return batch.records

    def record(self) -> RequestRecord:
        """Return the one record kept since the last time."""
        (record,) = self.records()
        return record

    def trip(self, offering: str) -> None:
        breaker, now = self.runtime.state.offerings[offering].breaker, self.runtime.clock()
        for _ in range(breaker.rules.consecutive_failures):
            breaker.fail(now, began=now)

    async def call(self, path: str, caller: Caller, heard: Heard, **scope: Any) -> None:
        """Carry one ASGI call through the door."""
        told = {"type": "http", "method": "POST", "path": path, "headers": HEADERS, **scope}
        lane = self.door.lane_for(told)
        assert lane is not None
        await self.door(lane, told, caller.receive, heard.take)

    async def send(self, path: str, *parts: bytes, **scope: Any) -> Heard:
        """Return the answer to a body sent in parts."""
        heard = Heard()
        await asyncio.wait_for(self.call(path, Caller(list(parts) or [b""]), heard, **scope), 20)
        assert heard.ended
        return heard

    async def post(self, path: str, body: Any, token: str = "", **headers: str) -> Heard:
        return await self.send(path, msgspec.json.encode(body), headers=sent_by(token, **headers))

    async def get(self, path: str, token: str = "") -> Heard:
        return await self.send(path, method="GET", headers=sent_by(token))

    def quiet(self) -> bool:
        """Return True if nothing is under way and no probe is out."""
        return all(
            live.in_flight == 0 and not live.breaker._probes for live in self.runtime.state.live
        )


OUR_NAMES = ("localhost", "127.0.0.1")
HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json")]


def sent_by(token: str, **more: str) -> list[tuple[bytes, bytes]]:
    """Return the usual headers, with the token as OpenAI's clients send it."""
    headers = [*HEADERS, *((n.replace("_", "-").encode(), v.encode()) for n, v in more.items())]
    return [*headers, (b"authorization", f"Bearer {token}".encode())] if token else headers


SetStage = Callable[..., Any]


@asynccontextmanager
async def staged(
    directory: Path,
    policy: PolicyDocument | None = None,
    *,
    resolve: Callable[[str], str] = lambda ref: "",
    worker: str = "web-0",
    keys_required: bool = False,
    **recorder: Any,
) -> AsyncIterator[Stage]:
    """Set a stage with the given policy, or one whose endpoints nobody serves."""
    kept = Recorder(directory, worker, **recorder)
    runtime = Runtime(
        recorder=kept,
        resolve_secret=resolve,
        worker=worker,
        doorkeeper=Doorkeeper(DIGEST_KEY, required=keys_required),
    )
    runtime.jitter = lambda: 0.0
    runtime.see_local_host(ROOMY)
    runtime.adopt(policy or document())
    door = LaneDoor(lambda: runtime, lambda host: host.partition(":")[0] in OUR_NAMES)
    try:
        yield Stage(runtime, door, directory, SpoolReader(directory))
    finally:
        await runtime.close()


def at(url: str, name: str = "sim", **more: Any) -> EndpointSpec:
    """Return an endpoint at a URL, of Ollama's kind unless told otherwise."""
    return EndpointSpec(**{"name": name, "provider": "ollama", "base_url": url, **more})

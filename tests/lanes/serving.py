"""A stage behind a real uvicorn, in a thread of its own: for what only sockets can show."""

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from routing.engine.catalog import PolicyDocument
from routing.simulator.server import listen, url_of
from telemetry.record import RequestRecord
from tests.lanes.stage import Stage, staged

START_LIMIT_S = 10.0
STOP_LIMIT_S = 10.0


@dataclass
class Served:
    """Where the door listens, and the stage behind it; its runtime belongs to another thread."""

    url: str
    stage: Stage

    def records(self) -> list[RequestRecord]:
        return self.stage.records()


@contextlib.contextmanager
def serving(
    directory: Path,
    policy: PolicyDocument,
    stopping: contextlib.ExitStack | None = None,
    **options: Any,
) -> Iterator[Served]:
    """Serve until the block ends; with `stopping` only that waits until it has stopped.

    Every host name is allowed that the sockets need.
    """
    stages: list[Stage] = []
    started = threading.Event()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stages.append(await stack.enter_async_context(staged(directory, policy, **options)))
            started.set()
            yield

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        lane = stages[0].door.lane_for(scope)
        if lane is None:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await stages[0].door(lane, scope, receive, send)

    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=2)
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, args=([listener],), daemon=True)
    thread.start()
    try:
        assert started.wait(START_LIMIT_S)
        yield Served(url_of(listener), stages[0])
    finally:
        runner.should_exit = True
        if stopping is None:
            _ended(thread, listener)
        else:
            stopping.callback(_ended, thread, listener)


def _ended(thread: threading.Thread, listener: socket.socket) -> None:
    thread.join(STOP_LIMIT_S)
    listener.close()

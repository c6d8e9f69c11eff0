"""What one turn of the loop writes leaves in one piece, and before the connection closes."""

import asyncio
import socket
from typing import Any

import httpx
import pytest
import uvicorn

from orchestra_site.corked import CorkedHttp, CorkedTransport


class Wire:
    """A transport that remembers what was done to it."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.closing = True
        self.done.append("closed")

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> str:
        return name

    def pause_reading(self) -> None:
        self.done.append("paused")


@pytest.fixture
async def corked() -> tuple[CorkedTransport, Wire]:
    wire = Wire()
    return CorkedTransport(wire, asyncio.get_running_loop()), wire


async def test_writes_of_one_turn_leave_together(corked: tuple[CorkedTransport, Wire]) -> None:
    transport, wire = corked
    transport.write(b"head")
    transport.write(b"")
    transport.write(b"body")
    assert wire.done == []
    await asyncio.sleep(0)
    transport.write(b"next")
    await asyncio.sleep(0)
    assert wire.done == [b"headbody", b"next"]


async def test_closing_writes_first(corked: tuple[CorkedTransport, Wire]) -> None:
    transport, wire = corked
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert wire.done == [b"last words", "closed"]


async def test_nothing_is_written_to_what_was_closed(
    corked: tuple[CorkedTransport, Wire],
) -> None:
    transport, wire = corked
    transport.write(b"too late")
    wire.closing = True
    await asyncio.sleep(0)
    assert wire.done == []


async def test_the_rest_of_a_transport_is_as_it_was(corked: tuple[CorkedTransport, Wire]) -> None:
    transport, wire = corked
    transport.pause_reading()
    assert (wire.done, transport.get_extra_info("peername")) == (["paused"], "peername")


async def test_a_stream_is_not_held_back() -> None:
    more = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await more.wait()
        await send({"type": "http.response.body", "body": b"second"})

    server = uvicorn.Server(uvicorn.Config(app, http=CorkedHttp, lifespan="off", log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            client.stream("GET", f"http://127.0.0.1:{port}/") as answer,
        ):
            chunks = answer.aiter_bytes()
            assert await anext(chunks) == b"first"
            more.set()
            assert await anext(chunks) == b"second"
    finally:
        server.should_exit = True
        await serving

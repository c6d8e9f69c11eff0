"""What one turn of the loop writes leaves in one piece, and before the connection closes."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from orchestra_site.corked import CorkedHttp, CorkedTransport, whole
from routing.lanes.door import answer
from routing.lanes.reply import PROBLEM_TYPE, WHOLE, Reply


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


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[int]:
    """Serve an application over the corked protocol; gives the port."""
    config = uvicorn.Config(app, http=CorkedHttp, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def test_a_stream_is_not_held_back() -> None:
    more = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await more.wait()
        await send({"type": "http.response.body", "body": b"second"})

    async with (
        serving(app) as port,
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("GET", f"http://127.0.0.1:{port}/") as answer,
    ):
        chunks = answer.aiter_bytes()
        assert await anext(chunks) == b"first"
        more.set()
        assert await anext(chunks) == b"second"


LIMITS = b"ratelimit-limit: 5\r\nratelimit-remaining: 4\r\n"
REPLIES = {
    "/plain": Reply(200, b'{"a":1}'),
    "/empty": Reply(200, b""),
    "/told": Reply(200, b"{}", headers={"x-request-id": "r1", "retry-after": "3"}, limits=LIMITS),
    "/refused": Reply(402, b'{"status":402}', PROBLEM_TYPE, limits=LIMITS),
    "/html": Reply(200, b"<p>", "text/html; charset=utf-8"),
    "/long": Reply(200, b"x" * 300_000),
}


class App:
    """Answers with its replies, as a server offers it, or in messages only."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        self.turns: list[bool] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        offered = scope["extensions"][WHOLE]

        def noted(*about: Any) -> bool:
            self.turns.append(offered(*about))
            return self.turns[-1]

        told = {**scope, "extensions": {WHOLE: noted} if self.whole else {}}
        await answer(REPLIES[scope["path"]], told, receive, send)


async def talk(port: int, *requests: bytes) -> bytes:
    """Return all that is answered to what is sent at once, but for the date."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(requests))
    said = await asyncio.wait_for(reader.read(-1), 10)
    writer.close()
    return re.sub(rb"date: [^\r]+", b"date: now", said)


def get(path: str, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = b"".join(b"%s\r\n" % line for line in (b"host: x", *headers))
    return b"GET %s HTTP/%s\r\n%s\r\n" % (path.encode(), version, lines)


LAST = b"connection: close"


@pytest.mark.parametrize("path", REPLIES)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_whole_answer_is_byte_by_byte_that_of_messages(path: str, version: bytes) -> None:
    both = []
    for at_once in (True, False):
        app = App(whole=at_once)
        async with serving(app) as port:
            both.append(await talk(port, get(path, LAST, version=version)))
        assert app.turns == ([True] if at_once and path != "/html" else [])
    assert both[0] == both[1]
    assert both[0].startswith(b"HTTP/1.1 ")


async def test_requests_sent_at_once_are_answered_in_turn() -> None:
    asked = (get("/plain"), get("/told"), get("/long"), get("/refused", LAST))
    both = []
    for at_once in (True, False):
        async with serving(App(whole=at_once)) as port:
            both.append(await talk(port, *asked))
    assert both[0] == both[1]
    assert both[0].count(b"HTTP/1.1 ") == 4
    # Whoever goes on is not told that the connection closes.
    assert both[0].count(LAST) == 1


async def test_who_does_not_read_is_not_written_to_for_ever() -> None:
    app = App(whole=True)
    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        asked = 60
        writer.write(get("/long") * (asked - 1) + get("/long", LAST))
        await asyncio.sleep(0.3)
        before = len(app.turns)
        assert before < asked
        said = await asyncio.wait_for(reader.read(-1), 20)
        writer.close()
    assert said.count(b"HTTP/1.1 200") == asked
    assert len(said) > asked * 300_000
    assert len(app.turns) == asked


async def test_a_header_of_two_lines_is_refused() -> None:
    reply = Reply(200, b"{}", headers={"x-model": "a\r\nset-cookie: b"})
    assert reply.head() is None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(reply, scope, receive, send)

    async with serving(app) as port:
        said = await talk(port, get("/", LAST))
    assert b"set-cookie" not in said
    assert said == b""


async def test_who_left_is_not_answered() -> None:
    left, returned = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        returned.append(scope["extensions"][WHOLE](send, 200, b"", b"late"))
        left.set()

    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/"))
        await writer.drain()
        writer.close()
        await asyncio.wait_for(left.wait(), 10)
    assert returned == [True]


async def test_nobody_else_may_send_an_answer_whole() -> None:
    async def send(message: Any) -> None:
        raise AssertionError(message)

    assert not whole(send, 200, b"", b"")

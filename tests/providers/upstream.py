"""A server that behaves exactly as badly as it is told, on a real socket."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass
class Asked:
    """One request as it was received, and the connection it came on."""

    head: bytes
    body: Any
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    async def until_closed(self) -> None:
        """Return when the other side has closed; fail if it is not within a second."""
        async with asyncio.timeout(1.0):
            while await self.reader.read(65536):
                pass


Behaviour = Callable[[Asked], Awaitable[None]]


@dataclass
class Upstream:
    """What was asked, and how the next requests will be answered: the last one goes on."""

    url: str = ""
    behaviours: list[Behaviour] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def will(self, *behaviours: Behaviour) -> None:
        self.behaviours = list(behaviours)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while (request := await self._request(reader, writer, number)) is not None:
                self.asked.append(request)
                many = len(self.behaviours) > 1
                await (self.behaviours.pop(0) if many else self.behaviours[0])(request)
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.CancelledError, TimeoutError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _request(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> Asked | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = msgspec.json.decode(await reader.readexactly(length)) if length else None
        return Asked(head, body, number, reader, writer)


@asynccontextmanager
async def upstream(*behaviours: Behaviour) -> AsyncIterator[Upstream]:
    """Serve on a free port until the block ends."""
    made = Upstream(behaviours=list(behaviours))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


def answer(body: bytes | str, status: int = 200, **headers: str) -> Behaviour:
    """Answer with a whole body; a header's underscores are dashes."""
    content = body.encode() if isinstance(body, str) else body
    told = {"content_length": str(len(content)), **headers}
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in told.items())
    return raw(f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + content)


def raw(data: bytes) -> Behaviour:
    """Answer with these bytes."""

    async def behave(asked: Asked) -> None:
        asked.writer.write(data)
        await asked.writer.drain()

    return behave


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def streamed(*parts: bytes, end: bytes = END) -> Behaviour:
    """Answer with a chunked body; without `end` the connection is closed in the middle of it."""

    async def behave(asked: Asked) -> None:
        asked.writer.write(STREAM_HEAD)
        for part in parts:
            asked.writer.write(chunk(part))
            await asked.writer.drain()
            await asyncio.sleep(0)
        asked.writer.write(end)
        if not end:
            asked.writer.close()

    return behave


def then_close(behaviour: Behaviour) -> Behaviour:
    async def behave(asked: Asked) -> None:
        await behaviour(asked)
        await asked.writer.drain()
        asked.writer.close()

    return behave


async def hang_up(asked: Asked) -> None:
    asked.writer.close()


async def reset(asked: Asked) -> None:
    connection = asked.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    asked.writer.transport.abort()


async def silence(asked: Asked) -> None:
    await asked.until_closed()

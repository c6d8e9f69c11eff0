"""How web workers take connections from the socket they share."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestra_site import listener
from orchestra_site.listener import Listener

CLIENTS = 32


class Greeter(asyncio.Protocol):
    """Says hello, and counts how often it did for each listener."""

    def __init__(self, greeted: list[int], number: int) -> None:
        self._greeted, self._number = greeted, number

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._greeted[self._number] += 1
        transport.write(b"hello")  # type: ignore[attr-defined]
        transport.close()


class Deaf:
    """A socket that has no descriptors left for the first connection."""

    def __init__(self, real: socket.socket) -> None:
        self._real, self.refused = real, 0

    def accept(self) -> tuple[socket.socket, object]:
        if not self.refused:
            self.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._real.accept()

    def fileno(self) -> int:
        return self._real.fileno()

    def setblocking(self, flag: bool) -> None:
        self._real.setblocking(flag)


@pytest.fixture
async def bound() -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS) as one:
        yield one


@asynccontextmanager
async def waiting(bound: socket.socket) -> AsyncIterator[list[socket.socket]]:
    """Yield clients whose connections wait to be taken."""
    clients = []
    try:
        for _ in range(CLIENTS):
            clients.append(socket.create_connection(bound.getsockname()))
            clients[-1].setblocking(False)
        yield clients
    finally:
        for client in clients:
            client.close()


async def hear(client: socket.socket) -> bytes:
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recv(client, 100)


async def test_connections_that_wait_are_shared_by_those_who_listen(bound: socket.socket) -> None:
    greeted = [0, 0]
    async with waiting(bound) as clients:
        # As two processes have it: the same socket under two descriptors.
        with bound.dup() as other:
            listeners = [
                Listener(one, lambda number=number: Greeter(greeted, number))  # type: ignore[misc]
                for number, one in enumerate((bound, other))
            ]
            assert {await hear(client) for client in clients} == {b"hello"}
            for one in listeners:
                one.close()
                await one.wait_closed()
    assert sum(greeted) == CLIENTS
    assert min(greeted) > CLIENTS // 4, greeted


async def test_nothing_is_taken_once_it_is_closed(bound: socket.socket) -> None:
    greeted = [0]
    closed = Listener(bound, lambda: Greeter(greeted, 0))
    closed.close()
    async with waiting(bound):
        await asyncio.sleep(0.05)
    assert greeted == [0]


async def test_without_descriptors_it_waits_for_some(
    bound: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener, "RETRY_S", 0.05)
    greeted, deaf = [0], Deaf(bound)
    one = Listener(deaf, lambda: Greeter(greeted, 0))  # type: ignore[arg-type]
    async with waiting(bound) as clients:
        assert {await hear(client) for client in clients} == {b"hello"}
    one.close()
    await one.wait_closed()
    assert deaf.refused == 1
    assert caplog.text.count("No connection can be taken for now") == 1

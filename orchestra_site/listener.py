"""How a web worker takes its connections: one each turn of its event loop.

The workers share one listening socket. uvloop accepts whatever waits there at once, so of
thirty-two clients that connected together one worker often had all, and the other cores rested.
One at a time, whoever has less to do is back sooner, and takes the next.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

import uvicorn

logger = logging.getLogger(__name__)

# Without file descriptors left, nothing helps but that some are closed.
NONE_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
RETRY_S = 1.0

MakeProtocol = Callable[[], asyncio.Protocol]


class Listener:
    """Serves one listening socket until it is closed; of an asyncio server, what uvicorn needs."""

    def __init__(self, listening: socket.socket, make_protocol: MakeProtocol) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket, self._make_protocol = listening, make_protocol
        self._beginning: set[asyncio.Task[object]] = set()
        self._closed = False
        listening.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Take no more connections; those that were taken go on."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())

    async def wait_closed(self) -> None:
        """Return once every connection that was taken has its protocol."""
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _resume(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as exc:
            # Another worker was faster, or the client has gone already.
            if exc.errno in NONE_LEFT:
                logger.error("No connection can be taken for now: %s", exc.strerror)
                self._loop.remove_reader(self._socket.fileno())
                self._loop.call_later(RETRY_S, self._resume)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._begin(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            connection.close()  # gone before it was ours


class Server(uvicorn.Server):
    """uvicorn, but for how it takes connections from the sockets it is given."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self.servers = [Listener(one, self._protocol) for one in sockets or ()]  # type: ignore[misc]

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

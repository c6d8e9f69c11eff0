"""Callers in a process of their own, at a steady pace; every answer is written down.

    python -m tests.chaos.crowd PORT OUTPUT < questions

The first line of the input has the pace and the questions as JSON; its end is the end of asking.
"""

import asyncio
import contextlib
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import BinaryIO

import msgspec
import uvloop

from tests import environment
from tests.chaos import told
from tests.chaos.told import Tally, Told

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SILENT_S = 60.0
REFUSED_S = 0.01  # of rest after a refusal, where there is no pace
AGAIN_S = 0.02  # before the next connection is tried
TICK_S = 0.001
LOOK_S = 1.0
NEARLY_ALL = 0.95
MOST_BEHIND_S = 1.0  # what was not asked for so long is never asked: no flood after a standstill
END_LIMIT_S, END_LOOK_S = 30.0, 0.05


class Question(msgspec.Struct, frozen=True):
    """One kind of request; `token` is the API key, if any."""

    path: str
    body: str
    token: str = ""

    def encoded(self, port: int) -> bytes:
        key = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        body = self.body.encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{key}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Pace(msgspec.Struct, frozen=True):
    """Who asks how fast: the questions take turns; a rate of 0 is as fast as they are answered."""

    questions: Sequence[Question]
    callers: int
    per_s: float = 0.0


class Line(asyncio.Protocol):
    """One caller's connection; one request at a time."""

    def __init__(self, crowd: "Crowd") -> None:
        self._crowd = crowd
        self._seen = b""
        self.asked_at: float | None = None
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._crowd.free(self, rest_s=0.0)

    def ask(self, request: bytes, now: float) -> None:
        self.asked_at, self._seen = now, b""
        if self.transport is not None:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, gap, body = self._seen.partition(b"\r\n\r\n")
        found = LENGTH.search(head) if gap else None
        if self.asked_at is None or found is None or len(body) < int(found[1]):
            return
        self.asked_at = None
        self._crowd.heard(self, int(head[9:12]), body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._crowd.lost(self)


class Crowd:
    """All callers, and what they have been told so far."""

    def __init__(self, pace: Pace, port: int, notes: BinaryIO) -> None:
        self._pace, self._port, self._notes = pace, port, notes
        self._next = cycle([question.encoded(port) for question in pace.questions])
        self._idle: deque[Line] = deque()  # the longest idle first
        self._lines: set[Line] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._over = False
        self._heard = 0
        self._loop = asyncio.get_running_loop()
        self.tally = Tally()

    async def ask_until(self, over: asyncio.Event) -> None:
        """Ask until `over`, and wait a little for the last answers."""
        for _ in range(self._pace.callers):
            self._connect()
        watch = self._loop.create_task(self._watch())
        if self._pace.per_s:
            await self._steadily(over)
        await over.wait()
        self._over = True
        for _ in range(int(END_LIMIT_S / END_LOOK_S)):
            if all(each.asked_at is None for each in self._lines):
                break
            await asyncio.sleep(END_LOOK_S)
        watch.cancel()
        self.tally.unanswered += sum(each.asked_at is not None for each in self._lines)

    async def _steadily(self, over: asyncio.Event) -> None:
        due, then, per_s = 0.0, self._loop.time(), self._pace.per_s
        while not over.is_set():
            now = self._loop.time()
            due += (now - then) * per_s
            then = now
            if due > per_s * MOST_BEHIND_S:
                self.tally.late += int(due - per_s * MOST_BEHIND_S)
                due -= int(due - per_s * MOST_BEHIND_S)
            while due >= 1 and self._idle:
                due -= 1
                self._ask(self._idle.popleft())
            await asyncio.sleep(TICK_S)

    async def _watch(self) -> None:
        """Hang up where nothing comes, and count the seconds in which all goes well."""
        heard, enough = self._heard, self._pace.per_s * LOOK_S * NEARLY_ALL
        while True:
            await asyncio.sleep(LOOK_S)
            self.tally.brisk_s += self._heard - heard >= enough
            heard = self._heard
            limit = self._loop.time() - SILENT_S
            for each in list(self._lines):
                if each.asked_at is not None and each.asked_at < limit and each.transport:
                    self.tally.silent += 1
                    each.transport.abort()

    def free(self, line: Line, rest_s: float) -> None:
        """Take note that a caller could ask."""
        self._lines.add(line)
        if self._pace.per_s:
            self._idle.append(line)
        elif not self._over:
            self._loop.call_later(rest_s, self._ask, line) if rest_s else self._ask(line)

    def heard(self, line: Line, status: int, body: bytes) -> None:
        """Write an answer down."""
        self._heard += 1
        self._notes.write(told.line(status, body))
        self.free(line, rest_s=0.0 if status == 200 else REFUSED_S)

    def lost(self, line: Line) -> None:
        """Count a request that went with its connection, and connect anew."""
        self._lines.discard(line)
        if line in self._idle:
            self._idle.remove(line)
        if line.asked_at is not None:
            self.tally.unanswered += 1
        self._connect()

    def _ask(self, line: Line) -> None:
        if line.transport is not None and not self._over:
            self.tally.asked += 1
            line.ask(next(self._next), self._loop.time())

    def _connect(self) -> None:
        if not self._over:
            task = self._loop.create_task(self._connected())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connected(self) -> None:
        while not self._over:
            with contextlib.suppress(OSError):
                await self._loop.create_connection(lambda: Line(self), "127.0.0.1", self._port)
                return
            await asyncio.sleep(AGAIN_S)


@contextlib.asynccontextmanager
async def asking(pace: Pace, port: int, notes: Path) -> AsyncIterator[Told]:
    """Have a crowd ask while the block runs; afterwards the yielded object says what it was told.

    The crowd stops by itself when this process dies.
    """
    found = Told()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.crowd", str(port), str(notes),
        stdin=asyncio.subprocess.PIPE, env=environment.outside(),
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(pace) + b"\n")
    try:
        yield found
    finally:
        process.stdin.close()
        code = await process.wait()
    assert code == 0, f"the callers ended with exit code {code}"
    heard = told.read(notes)
    for name in ("answered", "refused", "refused_ids", "nameless", "tally"):
        setattr(found, name, getattr(heard, name))


def _told() -> Pace:
    # Not buffered: the loop is told when there is more to read, which is the end.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as lines:
        return msgspec.json.decode(lines.readline(), type=Pace)


async def _main(pace: Pace, port: int, notes: BinaryIO) -> None:
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), over.set)
    crowd = Crowd(pace, port, notes)
    await crowd.ask_until(over)
    notes.write(msgspec.json.encode(crowd.tally) + b"\n")


if __name__ == "__main__":
    with Path(sys.argv[2]).open("wb", buffering=1 << 20) as file:
        uvloop.run(_main(_told(), int(sys.argv[1]), file))

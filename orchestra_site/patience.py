"""Answers for Django when it does not: a database that hangs must not hang its readers.

A query has no time limit that works in a frozen server, and a thread that waits for one cannot be
cancelled. So the caller is told, and the thread is left to end when the database does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from routing.lanes.problems import Failure
from routing.lanes.reply import Reply

logger = logging.getLogger(__name__)

Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

LIMIT_S = 10.0
LATE = Failure(
    503,
    "database_unavailable",
    f"There was no answer within {LIMIT_S:g} s, most likely because the database hangs;"
    " see /api/v1/health.",
)
_left_behind: set[asyncio.Task[None]] = set()


class _Answer:
    """What the application sends, until somebody else has answered in its place."""

    def __init__(self, send: Send) -> None:
        self.begun = asyncio.Event()
        self.late = False
        self._send = send

    async def send(self, message: Any) -> None:
        if self.late:
            return
        self.begun.set()
        await self._send(message)


async def within(limit_s: float, app: App, scope: Any, receive: Any, send: Send) -> None:
    """Run `app`; where no answer has begun after `limit_s` seconds, send 503 instead of one."""
    answer = _Answer(send)
    task = asyncio.ensure_future(app(scope, receive, answer.send))
    begun = asyncio.ensure_future(answer.begun.wait())
    try:
        await asyncio.wait((task, begun), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done() or begun.done():
            await task
            return
    except asyncio.CancelledError:
        task.cancel()
        raise
    finally:
        begun.cancel()
    answer.late = True
    _leave_behind(task)
    logger.warning("%s was not answered within %g s", scope["path"], limit_s)
    await _refuse(send)


def _leave_behind(task: "asyncio.Task[None]") -> None:
    _left_behind.add(task)
    task.add_done_callback(_forget)
    task.cancel()


def _forget(task: "asyncio.Task[None]") -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()  # fetched, or asyncio would complain of it


async def _refuse(send: Send) -> None:
    reply = Reply.problem(LATE)
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", b"%d" % len(reply.body)),
        (b"retry-after", b"5"),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})

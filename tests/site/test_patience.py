"""A caller of Django's pages is answered in time, whatever the database does."""

import asyncio
from typing import Any

import msgspec
import pytest

from orchestra_site import patience

SCOPE = {"path": "/api/v1/ai/models/status"}


class Told:
    """What the caller was sent."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])


async def answer(send: Any, words: bytes = b"here") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": words})


async def test_an_answer_in_time_is_passed_on() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send)

    told = Told()
    await patience.within(5.0, app, SCOPE, None, told.send)
    assert (told.status, told.messages[1]["body"]) == (200, b"here")


async def test_a_slow_body_is_waited_for_once_it_has_begun() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"late"})

    told = Told()
    await patience.within(0.02, app, SCOPE, None, told.send)
    assert told.messages[1]["body"] == b"late"


async def test_who_waits_for_a_hanging_database_is_told_once() -> None:
    release = asyncio.Event()

    async def stuck(scope: Any, receive: Any, send: Any) -> None:
        # As a thread: cancelling does not end it.
        waiting = asyncio.ensure_future(release.wait())
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError:
                continue
        await answer(send)

    told = Told()
    await patience.within(0.02, stuck, SCOPE, None, told.send)
    problem = msgspec.json.decode(told.messages[1]["body"])
    assert (told.status, problem["code"]) == (503, "database_unavailable")
    release.set()
    await asyncio.sleep(0.01)
    assert len(told.messages) == 2


async def test_a_fault_of_the_application_is_its_servers_to_see() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await patience.within(5.0, app, SCOPE, None, Told().send)

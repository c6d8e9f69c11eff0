"""A web worker that takes the place of one that died."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import MutableMapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from types import SimpleNamespace
from typing import Any

import pytest

from orchestra_site import asgi, collector
from routing import plane
from tests.service import LiveService, wait_replaced

CALLERS = 8
ASK = json.dumps({"taskType": "completion"})
pytestmark = pytest.mark.timeout(120)  # the whole service may have to start


def ask(service: LiveService) -> tuple[int, str]:
    """Return the status and error code of an answer; 0 where its worker died with it."""
    connection = HTTPConnection(service.url.removeprefix("http://"), timeout=10)
    with closing(connection):
        try:
            headers = {"content-type": "application/json"}
            connection.request("POST", "/api/v1/ai/select-model", ASK, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()).get("code", "")
        except (OSError, HTTPException):
            return 0, ""


def test_it_takes_no_request_that_it_cannot_answer_yet(live_service: LiveService) -> None:
    told: Counter[tuple[int, str]] = Counter()
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            told[ask(live_service)] += 1

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for one in callers:
        one.start()
    try:
        for _ in range(2):
            killed = live_service.child("web-0")
            killed.kill()
            wait_replaced(live_service, killed, "web-0")
            time.sleep(2.5)  # it has begun to answer by then
    finally:
        over.set()
        for one in callers:
            one.join()
    assert told.keys() <= {(200, ""), (0, "")}, told
    assert told[200, ""] > 100 * told[0, ""]


async def test_it_says_that_it_began_once_it_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(ready=False)
    said: list[str] = []
    asked: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    asked.put_nowait({"type": "lifespan.startup"})

    async def nothing() -> None:
        """The plane is this test's."""

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message["type"])

    monkeypatch.setattr(plane, "start", nothing)
    monkeypatch.setattr(plane, "stop", nothing)
    monkeypatch.setattr(plane, "current", lambda: runtime)
    monkeypatch.setattr(collector, "calm", lambda: said.append("calm"))
    life = asyncio.create_task(asgi.application({"type": "lifespan"}, asked.get, send))
    await asyncio.sleep(0.1)
    assert said == []
    runtime.ready = True
    asked.put_nowait({"type": "lifespan.shutdown"})
    async with asyncio.timeout(5):
        await life
    assert said == ["calm", "lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_without_a_policy_it_begins_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(ready=False)
    monkeypatch.setattr(plane, "current", lambda: runtime)
    assert not await plane.ready_within(0.05)
    runtime.ready = True
    assert await plane.ready_within(0.0)

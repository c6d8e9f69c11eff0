"""What callers say about waiting, and what they are told of it, at the doors."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from routing.lanes import queued
from tests.cast import ALPHA, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import CHAT, ROUTE, Caller, Heard, SetStage, Stage, at
from tests.waiting import soon

SERVICE_S = 0.3


@pytest.fixture
async def one_place(set_stage: SetStage, host: SimulatedHost) -> Stage:
    """One model behind one place, each answer taking a while."""
    host.fail("delay", delay_ms=SERVICE_S * 1000)
    made: Stage = await set_stage(
        document((ALPHA,), (at(host.url, max_concurrency=1, max_queue=2),))
    )
    made.runtime.gate.ways["sim"].queue.service_s = SERVICE_S
    return made


def route(**requirements: Any) -> dict[str, Any]:
    return {"taskType": "completion", "prompt": "Hi", "requirements": requirements}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], **more}


async def test_who_waited_is_told(one_place: Stage) -> None:
    answers = await asyncio.gather(*(one_place.post(ROUTE, route()) for _ in range(2)))
    assert [a.status for a in answers] == [200, 200]
    first, second = answers
    assert "x-orchestra-queue-position" not in first.headers
    assert "queuedMs" not in first.json["metrics"]
    assert second.headers["x-orchestra-queue-position"] == "1"
    assert int(second.headers["x-orchestra-queued-ms"]) >= SERVICE_S * 500
    assert second.json["metrics"]["queuedMs"] == int(second.headers["x-orchestra-queued-ms"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ROUTE, route(maxWaitMs=50)),
        (CHAT, chat(max_wait_ms=50)),
        (CHAT, chat(max_wait_ms=50, stream=True)),
    ],
)
async def test_who_cannot_wait_that_long_gets_503_at_once(
    one_place: Stage, path: str, body: Any
) -> None:
    first = asyncio.create_task(one_place.post(ROUTE, route()))
    await asyncio.sleep(0.02)
    began = time.monotonic()
    refused = await one_place.post(path, body)
    assert time.monotonic() - began < SERVICE_S / 2
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert b"no_model_available" in refused.body
    assert b"too late" in refused.body
    assert (await first).status == 200
    assert one_place.runtime.gate.ways["sim"].slots.in_use == 0


async def test_a_refusal_names_the_reason_for_each_candidate(one_place: Stage) -> None:
    first = asyncio.create_task(one_place.post(ROUTE, route()))
    await asyncio.sleep(0.02)
    refused = await one_place.post(ROUTE, route(maxWaitMs=0))
    assert [c["reason"] for c in refused.json["candidates"]] == ["crowded"]
    await first
    assert one_place.runtime.state.offerings["alpha:1b@sim"].breaker.consecutive == 0


async def test_an_endpoint_that_is_free_answers_who_would_not_wait(one_place: Stage) -> None:
    assert (await one_place.post(ROUTE, route(maxWaitMs=0))).status == 200


async def test_who_asks_to_wait_waits_for_the_breaker(stage: Stage) -> None:
    for offering in ("alpha:1b@sim", "beta:1b@sim"):
        stage.trip(offering)
        breaker = stage.runtime.state.offerings[offering].breaker
        breaker.open_until = stage.runtime.clock() + 0.2
    assert (await stage.post(ROUTE, route())).status == 503
    assert (await stage.post(ROUTE, route(maxWaitMs=50))).status == 503
    assert (await stage.post(CHAT, chat(max_wait_ms=5000))).status == 200


async def test_a_caller_who_leaves_the_queue_leaves_nothing_behind(one_place: Stage) -> None:
    first = asyncio.create_task(one_place.post(ROUTE, route()))
    await asyncio.sleep(0.02)
    second = asyncio.create_task(one_place.post(ROUTE, route()))
    await asyncio.sleep(0.02)
    assert len(one_place.runtime.gate.ways["sim"].queue) == 1
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    way = one_place.runtime.gate.ways["sim"]
    assert (len(way.queue), way.slots.in_use, way.waiters) == (0, 0, {})


async def test_streams_hold_their_place_to_the_end(one_place: Stage) -> None:
    answers = await asyncio.gather(*(one_place.post(CHAT, chat(stream=True)) for _ in range(2)))
    assert all(a.body.endswith(b"data: [DONE]\n\n") for a in answers)
    assert answers[1].headers["x-orchestra-queue-position"] == "1"
    assert one_place.runtime.gate.ways["sim"].slots.in_use == 0


@pytest.fixture
def told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queued, "TOLD_AFTER_S", 0.05)
    monkeypatch.setattr(queued, "TOLD_EVERY_S", 0.1)


STREAMS = [(CHAT, chat(stream=True)), (ROUTE, {**route(), "stream": True})]


@pytest.mark.usefixtures("told_soon")
@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_stream_tells_where_it_stands_while_it_waits(
    one_place: Stage, path: str, body: Any
) -> None:
    first = asyncio.create_task(one_place.post(ROUTE, route()))
    await asyncio.sleep(0.02)
    answer = await one_place.post(path, body)
    assert answer.status == 200
    assert answer.chunks[0].startswith(b": queued position=1 expected_wait_ms=300\n\n")
    assert (b"event: queued\n" in answer.chunks[0]) == (path == ROUTE)
    assert (b"[DONE]" if path == CHAT else b"event: done") in answer.body
    assert (await first).status == 200
    assert all(record.success for record in one_place.records())


@pytest.mark.usefixtures("told_soon")
@pytest.mark.parametrize(("path", "body"), STREAMS)
async def test_a_stream_that_waited_in_vain_ends_with_an_error(
    one_place: Stage, path: str, body: Any
) -> None:
    way = one_place.runtime.gate.ways["sim"]
    way.queue.service_s = 0.01
    first = asyncio.create_task(one_place.post(ROUTE, route()))
    await asyncio.sleep(0.02)
    limit = {"max_wait_ms": 150} if path == CHAT else {"requirements": {"maxWaitMs": 150}}
    answer = await one_place.post(path, {**body, **limit})
    assert b"no_model_available" in answer.body.rstrip().split(b"\n\n")[-1]
    assert b"[DONE]" not in answer.body
    await first
    assert sorted(record.status for record in one_place.records()) == [200, 503]
    assert way.slots.in_use == 0


@pytest.mark.usefixtures("told_soon")
async def test_a_streaming_caller_who_leaves_the_queue_is_noted(one_place: Stage) -> None:
    first = asyncio.create_task(one_place.post(ROUTE, route()))
    await asyncio.sleep(0.02)
    caller, heard = Caller([msgspec.json.encode(chat(stream=True))]), Heard()
    second = asyncio.create_task(one_place.call(CHAT, caller, heard))
    await soon(lambda: bool(heard.chunks))
    caller.leave()
    await asyncio.wait_for(second, 2)
    await first
    way = one_place.runtime.gate.ways["sim"]
    assert (len(way.queue), way.slots.in_use) == (0, 0)
    assert {record.error_type for record in one_place.records()} == {"", "caller_left"}

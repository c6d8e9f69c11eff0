"""route-request with `stream`: start, delta, switch, done or error."""

import asyncio
from typing import Any

import pytest
from msgspec.json import decode

from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import ROUTE, Caller, Heard, Stage
from tests.waiting import soon

ASK: dict[str, Any] = {"taskType": "completion", "prompt": "hi", "stream": True}


def told(heard: Heard) -> list[tuple[str, Any]]:
    """Return (event, data) of each event."""
    out = []
    for event in heard.body.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        out.append((name.removeprefix("event: "), decode(data.removeprefix("data: "))))
    return out


async def test_the_answer_comes_in_parts_and_then_whole(stage: Stage) -> None:
    heard = await stage.post(ROUTE, ASK)
    assert heard.headers["content-type"].startswith("text/event-stream")
    (first, start), *deltas, (last, done) = told(heard)
    assert (first, last) == ("start", "done")
    assert {name for name, _ in deltas} == {"delta"}
    assert "".join(data["text"] for _, data in deltas) == done["response"]
    assert start["requestId"] == done["requestId"] == heard.headers["x-request-id"]
    assert (start["selectedModel"], start["endpoint"]) == ("alpha:1b", "sim")
    record = stage.record()
    assert (record.kind, record.stream, record.status) == ("route", True, 200)
    assert record.completion_tokens == done["metrics"]["tokensGenerated"]
    assert stage.quiet()


async def test_done_is_what_an_unstreamed_answer_is(stage: Stage) -> None:
    streamed = told(await stage.post(ROUTE, ASK | {"explain": True}))[-1][1]
    whole = (await stage.post(ROUTE, ASK | {"explain": True, "stream": False})).json
    assert streamed.keys() == whole.keys()
    assert streamed["finishReason"] == whole["finishReason"]


async def test_until_the_first_token_an_error_is_an_ordinary_one(
    stage: Stage, host: SimulatedHost
) -> None:
    host.fail("http_error", status=500)
    heard = await stage.post(ROUTE, ASK)
    assert (heard.status, heard.json["code"]) == (502, "all_attempts_failed")
    assert heard.headers["content-type"] == "application/problem+json"


async def test_afterwards_it_is_an_event_and_the_last(stage: Stage, host: SimulatedHost) -> None:
    host.fail("cut", after_tokens=3)
    events = told(await stage.post(ROUTE, ASK))
    name, problem = events[-1]
    assert (name, problem["code"]) == ("error", "upstream_stream_cut")
    assert "done" not in [name for name, _ in events]
    record = stage.record()
    assert (record.status, record.success) == (502, False)
    assert record.attempts[0].completion_tokens > 0
    assert stage.quiet()


async def test_a_switch_is_told(stage: Stage, host: SimulatedHost) -> None:
    host.fail("cut", model="alpha:1b", after_tokens=3, count=1)
    same = ASK | {"requirements": {"temperature": 0}}
    events = told(await stage.post(ROUTE, same))
    done = events[-1][1]
    assert events[-1][0] == "done"
    assert "".join(data["text"] for name, data in events if name == "delta") == done["response"]


async def test_an_embedding_is_not_streamed(quiet_stage: Stage) -> None:
    heard = await quiet_stage.post(ROUTE, ASK | {"taskType": "embedding"})
    assert (heard.status, heard.json["errors"][0]["pointer"]) == (400, "/stream")


@pytest.mark.parametrize("after", [0, 3])
async def test_leaving_ends_the_upstream_call(
    stage: Stage, host: SimulatedHost, after: int
) -> None:
    host.fail("silence", after_tokens=after)
    caller, heard = Caller([b'{"taskType": "completion", "prompt": "hi", "stream": true}']), Heard()
    task = asyncio.create_task(stage.call(ROUTE, caller, heard))
    await soon(lambda: len(heard.chunks) >= after and not stage.quiet())
    caller.leave()
    await asyncio.wait_for(task, 1.0)
    await soon(lambda: host.sim.cancelled == 1)
    assert stage.record().status == 499
    assert stage.quiet()

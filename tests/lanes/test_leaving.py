"""A caller who leaves ends the work done for it, within a second, and is recorded as 499."""

import asyncio
from typing import Any

import pytest

from tests.cast import ALPHA, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import CHAT, ROUTE, Caller, Heard, SetStage, Stage, at
from tests.waiting import soon

ASK = b'{"taskType": "completion", "prompt": "hi"}'
TALK = b'{"model": "auto", "messages": [{"role": "user", "content": "hi"}]}'
STREAM = TALK[:-1] + b', "stream": true}'


@pytest.mark.parametrize(
    ("path", "body"), [(ROUTE, ASK), (CHAT, TALK), (CHAT, STREAM)], ids=["route", "chat", "stream"]
)
async def test_leaving_before_the_answer(
    stage: Stage, host: SimulatedHost, path: str, body: bytes
) -> None:
    host.fail("silence")
    caller, heard = Caller([body]), Heard()
    task = asyncio.create_task(stage.call(path, caller, heard))
    await soon(lambda: not stage.quiet())
    caller.leave()
    await asyncio.wait_for(task, 1.0)
    assert heard.status == 0
    await soon(lambda: host.sim.cancelled == 1)
    record = stage.record()
    assert (record.status, record.error_type, record.success) == (499, "caller_left", False)
    assert (record.chosen_model, record.attempts) == ("alpha:1b", ())
    assert stage.quiet()


async def test_leaving_in_the_middle_of_a_stream(stage: Stage, host: SimulatedHost) -> None:
    host.fail("silence", after_tokens=3)
    caller, heard = Caller([STREAM]), Heard()
    task = asyncio.create_task(stage.call(CHAT, caller, heard))
    await soon(lambda: len(heard.chunks) >= 4)
    caller.leave()
    await asyncio.wait_for(task, 1.0)
    assert not heard.ended
    await soon(lambda: host.sim.cancelled == 1)
    record = stage.record()
    assert (record.status, record.selected_model) == (499, "alpha:1b")
    assert (record.completion_tokens > 0, record.usage_estimated) == (True, True)
    assert stage.quiet()


async def test_leaving_between_the_first_token_and_the_stream(
    stage: Stage, host: SimulatedHost
) -> None:
    """The server stops sending before the stream has begun."""

    async def refuse(message: Any) -> None:
        raise OSError("the connection is gone")

    host.fail("silence", after_tokens=3)
    heard = Heard()
    heard.take = refuse  # type: ignore[method-assign]
    with pytest.raises(OSError, match="gone"):
        await stage.call(CHAT, Caller([STREAM]), heard)
    await soon(lambda: host.sim.cancelled == 1)
    assert stage.record().status == 499
    assert stage.quiet()


async def test_leaving_while_another_attempt_is_waited_for(
    stage: Stage, host: SimulatedHost
) -> None:
    host.fail("http_error", status=503, retry_after_s=0)
    stage.runtime.jitter = lambda: 100.0  # the pause before asking again: 25 s
    caller = Caller([ASK])
    task = asyncio.create_task(stage.call(ROUTE, caller, Heard()))
    await asyncio.sleep(0.2)
    caller.leave()
    host.recover()
    await asyncio.wait_for(task, 1.0)
    assert stage.quiet()


async def test_leaving_before_the_body_is_complete(quiet_stage: Stage) -> None:
    caller = Caller([ASK[:5], b""])
    caller._parts.pop()
    caller.leave()
    heard = Heard()

    async def receive() -> Any:
        message = await Caller.receive(caller)
        return {**message, "more_body": True} if message["type"] == "http.request" else message

    caller.receive = receive  # type: ignore[method-assign]
    await asyncio.wait_for(quiet_stage.call(ROUTE, caller, heard), 1.0)
    assert (heard.status, quiet_stage.records()) == (0, [])


async def test_leaving_does_not_use_up_the_probe_of_a_recovering_model(
    stage: Stage, host: SimulatedHost
) -> None:
    stage.trip("alpha:1b@sim")
    breaker = stage.runtime.state.offerings["alpha:1b@sim"].breaker
    breaker.open_until = stage.runtime.clock()
    host.fail("silence")
    caller = Caller([TALK.replace(b"auto", b"alpha:1b")])
    task = asyncio.create_task(stage.call(CHAT, caller, Heard()))
    await soon(lambda: breaker.state == "half-open")
    caller.leave()
    await asyncio.wait_for(task, 1.0)
    host.recover()
    assert (await stage.send(CHAT, TALK.replace(b"auto", b"alpha:1b"))).status == 200
    assert breaker.state == "closed"


async def test_a_caller_who_stays_is_not_taken_for_one_who_left(
    set_stage: SetStage, host: SimulatedHost
) -> None:
    """Answers that take longer than the door waits before it watches its caller."""
    stage = await set_stage(document((ALPHA,), (at(host.url),)))
    host.fail("delay", delay_ms=300)
    assert (await stage.send(ROUTE, ASK)).status == 200
    heard = await stage.send(CHAT, STREAM)
    assert heard.events[-1] == "[DONE]"
    assert [r.status for r in stage.records()] == [200, 200]

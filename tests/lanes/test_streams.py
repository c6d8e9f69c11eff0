"""Streams up to and past their commit point, over an upstream that is told what to do when."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from routing.engine.catalog import DEFAULT_PROFILES
from routing.lanes import limits
from tests.cast import document, model
from tests.lanes.stage import CHAT, SetStage, Stage, at
from tests.providers.upstream import END, STREAM_HEAD, Asked, Behaviour, Upstream, chunk, upstream

STREAM = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "stream": True}
HASTY = replace(DEFAULT_PROFILES[1], deadline_ms=400)


def delta(text: str = "", finish: str | None = None, **more: Any) -> bytes:
    choice = {"delta": {"content": text, **more}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"
FOR_EVER = 60.0


def timed(*steps: bytes | float) -> Behaviour:
    """Stream parts, and wait for so many seconds in between; stay open at the end."""

    async def behave(asked: Asked) -> None:
        asked.writer.write(STREAM_HEAD)
        for step in steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                asked.writer.write(chunk(step))
                await asked.writer.drain()
        await asked.until_closed()

    return behave


@pytest.fixture
async def server() -> AsyncIterator[Upstream]:
    async with upstream() as made:
        yield made


@pytest.fixture
async def alone(set_stage: SetStage, server: Upstream) -> Stage:
    """One model at one endpoint: nobody stands in."""
    made: Stage = await set_stage(document((model("solo"),), (at(server.url, provider="openai"),)))
    return made


def breaker_failures(stage: Stage) -> int:
    return stage.runtime.state.live[0].breaker.consecutive


async def test_an_answer_is_over_with_its_finish_reason(alone: Stage, server: Upstream) -> None:
    """Its server neither sends an end marker nor closes."""
    server.will(timed(delta("Hi"), delta(finish="stop")))
    async with asyncio.timeout(limits.AFTER_FINISH_S + 1):
        heard = await alone.post(CHAT, STREAM)
    assert heard.events[-1] == "[DONE]"
    assert (alone.record().status, breaker_failures(alone)) == (200, 0)
    assert alone.quiet()


async def test_usage_may_follow_the_finish_reason(alone: Stage, server: Upstream) -> None:
    server.will(timed(delta("Hi"), delta(finish="stop"), 0.1, USAGE, DONE))
    await alone.post(CHAT, STREAM)
    record = alone.record()
    assert (record.prompt_tokens, record.completion_tokens) == (3, 2)
    assert record.usage_estimated is False


@pytest.mark.parametrize("after", [END[:1], b"zz\r\n", chunk(b"data: {oops\n\n")])
async def test_what_breaks_after_the_finish_reason_breaks_nothing(
    alone: Stage, server: Upstream, after: bytes
) -> None:
    async def behave(asked: Asked) -> None:
        asked.writer.write(STREAM_HEAD + chunk(delta("Hi")) + chunk(delta(finish="stop")) + after)
        asked.writer.close()

    server.will(behave)
    heard = await alone.post(CHAT, STREAM)
    assert heard.events[-1] == "[DONE]"
    assert (alone.record().success, breaker_failures(alone)) == (True, 0)


async def test_a_model_that_thinks_first_is_not_taken_for_silent(
    alone: Stage, server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_TOKEN_S", 0.2)
    thoughts: list[bytes | float] = [delta(reasoning_content="Hm."), 0.1] * 5
    server.will(timed(*thoughts, delta("Hi", "stop"), DONE))
    heard = await alone.post(CHAT, STREAM)
    assert heard.events[-1] == "[DONE]"
    assert len(server.asked) == 1


async def test_a_first_token_that_does_not_come_is_a_failure(
    alone: Stage, server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_TOKEN_S", 0.1)
    server.will(timed(FOR_EVER))
    heard = await alone.post(CHAT, STREAM)
    assert (heard.status, heard.json["error"]["code"]) == (504, "all_attempts_failed")
    assert [a.error_type for a in alone.record().attempts] == ["upstream_timeout"]
    assert breaker_failures(alone) == 1


async def test_silence_between_tokens_breaks_the_stream(
    alone: Stage, server: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BETWEEN_TOKENS_S", 0.1)
    server.will(timed(delta("Hi"), FOR_EVER))
    heard = await alone.post(CHAT, STREAM)
    assert heard.events[-1]["error"]["code"] == "upstream_timeout"
    record = alone.record()
    assert (record.status, record.error_type) == (502, "upstream_timeout")
    assert breaker_failures(alone) == 1
    assert alone.quiet()


async def test_a_deadline_in_the_middle_is_not_the_models_fault(
    set_stage: SetStage, server: Upstream
) -> None:
    policy = document((model("solo"),), (at(server.url, provider="openai"),), profiles=(HASTY,))
    stage = await set_stage(policy)
    trickle: list[bytes | float] = [delta("more "), 0.05]
    server.will(timed(*trickle * 100))
    heard = await stage.post(CHAT, STREAM)
    assert heard.events[-1]["error"]["code"] == "deadline_exceeded"
    record = stage.record()
    assert (record.status, record.error_type) == (504, "deadline_exceeded")
    assert 400 <= record.response_time_ms < 1500
    assert breaker_failures(stage) == 0
    assert stage.quiet()


async def test_an_empty_answer_is_an_answer(alone: Stage, server: Upstream) -> None:
    server.will(timed(delta(finish="stop"), DONE))
    heard = await alone.post(CHAT, STREAM)
    assert heard.events[-1] == "[DONE]"
    assert heard.events[1]["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_that_says_nothing_is_a_failure(alone: Stage, server: Upstream) -> None:
    server.will(timed(delta(), DONE))
    heard = await alone.post(CHAT, STREAM)
    assert heard.status == 502


async def test_tokens_are_passed_on_as_they_come(alone: Stage, server: Upstream) -> None:
    """The first token arrives long before the last."""
    server.will(timed(delta("one "), 0.4, delta("two", "stop"), DONE))
    await alone.post(CHAT, STREAM)
    record = alone.record()
    assert record.first_token_ms < 300
    assert record.response_time_ms >= 400


async def test_speed_is_learnt_from_streams(alone: Stage, server: Upstream) -> None:
    live = alone.runtime.state.live[0]
    before = live.ttft_ms, live.ms_per_token
    server.will(timed(delta("a"), delta("b", "stop"), USAGE, DONE))
    for _ in range(5):
        await alone.post(CHAT, STREAM)
    assert live.ttft_ms < before[0]
    assert live.ms_per_token < before[1]

"""After the commit point: somebody goes on from what was sent, or the stream says it is broken."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from routing.engine.catalog import ChainSpec, EndpointSpec, ModelSpec, OfferingSpec
from routing.lanes import limits
from tests.cast import document, model
from tests.lanes.stage import CHAT, ROUTE, SetStage, Stage, at
from tests.lanes.test_streams import DONE, FOR_EVER, delta, timed
from tests.providers.upstream import Behaviour, Upstream, hang_up, streamed, upstream

TALK = {"model": "first", "messages": [{"role": "user", "content": "hi"}], "stream": True}
ASK = {"taskType": "completion", "prompt": "hi", "stream": True}
FINISH = delta(finish="stop")
CALL = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a": 1'}}


def says(*texts: str, end: bool = True) -> Behaviour:
    parts = [delta(text) for text in texts]
    return streamed(*parts, FINISH, DONE) if end else streamed(*parts, end=b"")


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Upstream, Upstream]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(upstream()),
            await stack.enter_async_context(upstream()),
        )


async def stage_of(
    set_stage: SetStage, pair: tuple[Upstream, Upstream], second: str = "second", **more: Any
) -> Stage:
    """Return a stage where `first` is at one endpoint and `second` at another."""
    endpoints: tuple[EndpointSpec, ...] = tuple(
        at(server.url, name, provider="openai") for server, name in zip(pair, "xy", strict=True)
    )
    models: dict[str, ModelSpec] = {"first": model("first", "high", **more)}
    models.setdefault(second, model(second, **more))
    offerings = (
        OfferingSpec(model="first", endpoint="x"),
        OfferingSpec(model=second, endpoint="y"),
    )
    chain = ChainSpec(name="c", models=("second",), for_model="first")
    chains = (chain,) if second == "second" else ()
    made: Stage = await set_stage(
        document(models.values(), endpoints, offerings=offerings, chains=chains)
    )
    return made


def text_of(events: list[Any]) -> str:
    choices = [c for e in events if e != "[DONE]" for c in e.get("choices", ())]
    return "".join(c["delta"].get("content") or "" for c in choices)


async def test_the_same_beginning_is_gone_on_from(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair)
    pair[0].will(says("Hello, ", "wor", end=False), hang_up)
    pair[1].will(says("Hel", "lo, world", "!"))
    heard = await stage.post(CHAT, TALK)
    assert (text_of(heard.events), heard.events[-1]) == ("Hello, world!", "[DONE]")
    assert heard.events[-2]["model"] == "second"
    record = stage.record()
    assert (record.success, record.selected_model, record.fallback_used) == (True, "second", True)
    told = [(a.endpoint, a.error_type, a.completion_tokens) for a in record.attempts]
    assert told[0] == ("x", "upstream_stream_cut", 3)
    assert told[1:] == [("x", "upstream_unreachable", 0), ("y", "", 0)]
    assert stage.quiet()


@pytest.mark.parametrize("other", ["Hello! ", "Hello, ", "hello, world", "H"])
async def test_another_answer_is_not_mixed_in(
    set_stage: SetStage, pair: tuple[Upstream, Upstream], other: str
) -> None:
    """One byte makes the difference, and so does an answer that ends too soon."""
    stage = await stage_of(set_stage, pair)
    pair[0].will(says("Hello, ", "wor", end=False))
    pair[1].will(says(other))
    heard = await stage.post(CHAT, TALK)
    assert text_of(heard.events) == "Hello, wor"
    assert heard.events[-1]["error"]["code"] == "upstream_stream_cut"
    record = stage.record()
    assert (record.status, record.success) == (502, False)
    assert "answer_diverged" in [a.error_type for a in record.attempts]
    assert stage.runtime.state.offerings["second@y"].breaker.consecutive == 0
    assert stage.quiet()


async def test_a_model_that_accepts_it_is_given_the_beginning(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair, accepts_prefill=True)
    pair[0].will(says("Hello, ", "wor", end=False), hang_up)
    pair[1].will(says("Good day."), says("ld", "!"))
    heard = await stage.post(CHAT, TALK | {"max_tokens": 50})
    assert (text_of(heard.events), heard.events[-1]) == ("Hello, world!", "[DONE]")
    asked = pair[1].asked[1].body
    assert asked["messages"][1:] == [{"role": "assistant", "content": "Hello, wor"}]
    assert asked["continue_final_message"] is True
    assert asked["max_tokens"] == 48
    assert stage.record().usage_estimated
    assert stage.quiet()


async def test_a_server_that_repeats_the_beginning_is_heard_from_its_end(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair, accepts_prefill=True)
    pair[0].will(says("Hello, ", "wor", end=False), hang_up)
    pair[1].will(says("Good day."), says("Hello, w", "orld"))
    heard = await stage.post(CHAT, TALK)
    assert (text_of(heard.events), heard.events[-1]) == ("Hello, world", "[DONE]")


async def test_a_server_that_begins_anew_does_not_double_the_answer(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair, accepts_prefill=True)
    began = "It was a dark and stormy night; the rain fell "
    pair[0].will(says(began, end=False), hang_up)
    pair[1].will(says("Good day."), says("It was a dark and stormy night. ", "The end."))
    heard = await stage.post(CHAT, TALK)
    assert text_of(heard.events) == began
    assert heard.events[-1]["error"]["code"] == "upstream_stream_cut"


async def test_words_in_common_are_the_continuations_own(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair, accepts_prefill=True)
    pair[0].will(says("ha ha ho ", end=False), hang_up)
    pair[1].will(says("No."), says("ha ", "ha!"))
    heard = await stage.post(CHAT, TALK)
    assert (text_of(heard.events), heard.events[-1]) == ("ha ha ho ha ha!", "[DONE]")


async def test_an_answer_in_a_set_format_has_no_second_half(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair, accepts_prefill=True)
    pair[0].will(says('{"a"', end=False))
    pair[1].will(says('{"b": 1}'))
    heard = await stage.post(CHAT, TALK | {"response_format": {"type": "json_object"}})
    assert heard.events[-1]["error"]["code"] == "upstream_stream_cut"
    assert not any("continue_final_message" in asked.body for asked in pair[1].asked)


async def test_half_a_tool_call_is_never_finished_by_another(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair, accepts_prefill=True)
    pair[0].will(streamed(delta(tool_calls=[CALL]), end=b""))
    pair[1].will(says("Hello"))
    heard = await stage.post(CHAT, TALK)
    assert heard.events[-1]["error"]["code"] == "upstream_stream_cut"
    assert pair[1].asked == []


async def test_half_a_tool_call_with_an_end_marker_is_half_a_tool_call(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair)
    pair[0].will(streamed(delta(tool_calls=[CALL]), DONE))
    heard = await stage.post(CHAT, TALK)
    assert heard.events[-1]["error"]["code"] == "upstream_stream_cut"


async def test_the_same_model_is_asked_once_more_where_it_was(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair)
    pair[0].will(says("Hello, ", end=False), says("Hello, ", "world"))
    heard = await stage.post(CHAT, TALK)
    assert (text_of(heard.events), heard.events[-1]) == ("Hello, world", "[DONE]")
    assert pair[1].asked == []


async def test_an_answer_that_always_breaks_is_given_up(
    set_stage: SetStage, pair: tuple[Upstream, Upstream]
) -> None:
    stage = await stage_of(set_stage, pair)
    for server in pair:
        server.will(*(says(*"Hello, world"[:n], end=False) for n in range(2, 12)))
    heard = await stage.post(CHAT, TALK)
    assert heard.events[-1]["error"]["code"] == "upstream_stream_cut"
    assert "Hello, world".startswith(text_of(heard.events))
    assert len(stage.record().attempts) <= 5
    assert stage.quiet()


@pytest.mark.parametrize("path", [CHAT, ROUTE])
async def test_keep_alives_do_not_hide_a_stall(
    set_stage: SetStage,
    pair: tuple[Upstream, Upstream],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    monkeypatch.setattr(limits, "BETWEEN_TOKENS_S", 0.2)
    stage = await stage_of(set_stage, pair)
    trickle: list[bytes | float] = [
        b": ping\n\n",
        0.02,
        b"\n",
        delta(""),
        0.02,
        delta("", role="x"),
    ]
    pair[0].will(timed(delta("Hello, "), *trickle * 100, FOR_EVER))
    pair[1].will(says("Hello, world"))
    heard = await stage.post(path, TALK if path == CHAT else ASK)
    assert b"world" in heard.body
    assert stage.record().attempts[0].error_type == "upstream_timeout"


@pytest.mark.parametrize("asked", [TALK, TALK | {"stream": False}])
async def test_an_answer_held_back_hides_every_failure(
    set_stage: SetStage, pair: tuple[Upstream, Upstream], asked: Any
) -> None:
    stage = await stage_of(set_stage, pair)
    pair[0].will(says("Hello, ", "wor", end=False))
    whole = b'{"choices": [{"message": {"content": "Good day."}, "finish_reason": "stop"}]}'
    pair[1].will(says("Good ", "day.") if asked["stream"] else streamed(whole))
    heard = await stage.post(CHAT, {**asked, "commit": "complete"})
    assert (heard.status, b"Hello" in heard.body) == (200, False)
    assert stage.record().selected_model == "second"
    assert stage.quiet()


async def test_a_commit_point_that_is_none_is_refused(quiet_stage: Stage) -> None:
    heard = await quiet_stage.post(CHAT, TALK | {"commit": "never"})
    assert (heard.status, heard.json["error"]["param"]) == (400, "commit")
    assert "complete, first_token" in heard.json["error"]["message"]
    heard = await quiet_stage.post(ROUTE, ASK | {"commit": "never"})
    assert (heard.status, heard.json["errors"][0]["pointer"]) == (400, "/commit")

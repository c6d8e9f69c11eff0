"""OpenAI's own Python client against the lane: it must not notice that we are not OpenAI."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from routing.engine.catalog import ChainSpec
from tests.cast import ALPHA, BETA, CATALOGUE, VECTORS, document, model
from tests.engines import Engine
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.serving import Served, serving
from tests.lanes.stage import at
from tests.waiting import soon

HELLO: list[Any] = [{"role": "user", "content": "Hello you"}]
STREAMED = {"model": "auto", "messages": HELLO, "stream": True}
LOST = model("lost:1b", "exceptional", capabilities=("code",))
BEHIND_LOST = ChainSpec(name="after-lost", models=("beta:1b",), for_model="lost:1b")
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(params=["ollama", "openai"])
def kind(request: pytest.FixtureRequest) -> str:
    """The protocol spoken to the simulator; the caller must not be able to tell."""
    return str(request.param)


@pytest.fixture
def host(start_simulator: StartSimulator) -> SimulatedHost:
    return start_simulator(CATALOGUE, speed=1000)


@pytest.fixture(scope="module")
def stopping() -> Iterator[contextlib.ExitStack]:
    """Servers whose test is over; stopping takes 0.2 s, which no test need wait for."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def served(
    tmp_path: Path, host: SimulatedHost, kind: str, stopping: contextlib.ExitStack
) -> Iterator[Served]:
    policy = document(
        (ALPHA, BETA, VECTORS, LOST), (at(host.url, provider=kind),), chains=(BEHIND_LOST,)
    )
    with serving(tmp_path / "spool", policy, stopping) as made:
        yield made


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def say(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "auto", "messages": HELLO, **more})


def text_of(chunks: list[Any]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_a_whole_answer(client: openai.OpenAI, served: Served) -> None:
    told = say(client, max_tokens=5)
    assert told.object == "chat.completion"
    assert told.id.startswith("chatcmpl-")
    assert told.model == "alpha:1b"
    (choice,) = told.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert choice.message.content
    assert told.usage.completion_tokens == 5
    assert told.usage.total_tokens == told.usage.prompt_tokens + 5
    (record,) = served.records()
    assert told.id == f"chatcmpl-{record.request_id}"
    assert (record.kind, record.completion_tokens, record.stream) == ("chat", 5, False)


def test_a_streamed_answer_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    whole = say(client, temperature=0, max_tokens=6)
    chunks = list(say(client, temperature=0, max_tokens=6, stream=True))
    assert text_of(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks][-1] == "length"
    assert all(chunk.usage is None for chunk in chunks)
    assert len(chunks) >= 7


def test_usage_comes_last_where_it_is_asked_for(client: openai.OpenAI, served: Served) -> None:
    chunks = list(say(client, max_tokens=4, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert (usage.completion_tokens, usage.total_tokens) == (4, usage.prompt_tokens + 4)
    (record,) = served.records()
    assert (record.stream, record.completion_tokens) == (True, 4)
    assert (record.prompt_tokens, record.usage_estimated) == (usage.prompt_tokens, False)
    assert record.first_token_ms <= record.response_time_ms


async def test_the_asynchronous_client(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
        whole = await client.chat.completions.create(
            model="auto", messages=HELLO, temperature=0, max_tokens=4
        )
        stream = await client.chat.completions.create(
            model="auto", messages=HELLO, temperature=0, max_tokens=4, stream=True
        )
        chunks = [chunk async for chunk in stream]
    assert text_of(chunks) == whole.choices[0].message.content


def test_the_streaming_helper_of_the_client(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="auto", messages=HELLO) as stream:
        for _ in stream:
            pass
        told = stream.get_final_completion()
    assert told.choices[0].message.content
    assert told.choices[0].finish_reason == "stop"


class TestTools:
    def test_a_round_trip(self, client: openai.OpenAI) -> None:
        asked = say(client, tools=[TOOL]).choices[0]
        assert asked.finish_reason == "tool_calls"
        (call,) = asked.message.tool_calls
        assert call.function.name == "get_weather"
        assert isinstance(json.loads(call.function.arguments), dict)
        result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny"}
        messages = [*HELLO, asked.message.to_dict(), result]
        final = say(client, tools=[TOOL], messages=messages).choices[0]
        assert (final.finish_reason, bool(final.message.content)) == ("stop", True)

    def test_calls_in_a_stream(self, client: openai.OpenAI) -> None:
        chunks = list(say(client, tools=[TOOL], stream=True))
        calls = [c for k in chunks if k.choices for c in k.choices[0].delta.tool_calls or []]
        assert calls[0].function.name == "get_weather"
        assert json.loads("".join(c.function.arguments or "" for c in calls)) is not None
        assert [k.choices[0].finish_reason for k in chunks if k.choices][-1] == "tool_calls"


class TestModels:
    def test_auto_and_every_model_are_listed(self, client: openai.OpenAI) -> None:
        names = [entry.id for entry in client.models.list()]
        assert names[:2] == ["auto", "auto:completion"]
        assert "auto:code" in names
        assert "auto:embedding" not in names
        assert {"alpha:1b", "beta:1b", "vectors:1b"} <= set(names)

    def test_a_task_is_selected_for(self, client: openai.OpenAI, served: Served) -> None:
        assert say(client, model="auto:analysis").model == "alpha:1b"
        assert served.records()[0].task_type == "analysis"

    def test_a_model_by_name(self, client: openai.OpenAI) -> None:
        told = client.chat.completions.with_raw_response.create(model="beta:1b", messages=HELLO)
        assert told.parse().model == "beta:1b"
        assert told.headers["x-orchestra-fallback"] == "false"
        assert told.headers["x-orchestra-endpoint"] == "sim"
        assert told.headers["x-orchestra-simulated"] == "false"

    def test_a_named_model_has_its_chain_behind_it(
        self, client: openai.OpenAI, served: Served
    ) -> None:
        told = client.chat.completions.with_raw_response.create(model="lost:1b", messages=HELLO)
        assert told.parse().model == "beta:1b"
        assert told.headers["x-orchestra-fallback"] == "true"
        (record,) = served.records()
        assert (record.chosen_model, record.selected_model) == ("lost:1b", "beta:1b")

    def test_without_a_chain_nobody_stands_in_for_a_named_model(
        self, client: openai.OpenAI, host: SimulatedHost
    ) -> None:
        host.fail("http_error", model="beta:1b")
        with pytest.raises(openai.InternalServerError):
            say(client, model="beta:1b")


class TestErrors:
    """Each of the client's error classes, with the parts it takes from the body."""

    def test_an_unknown_model(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="Did you mean 'alpha:1b'") as caught:
            say(client, model="alhpa:1b")
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")

    def test_a_wrong_parameter(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            say(client, temperature=9)
        assert (caught.value.type, caught.value.param) == ("invalid_request_error", "temperature")

    def test_a_prompt_that_fits_nowhere(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            say(client, messages=[{"role": "user", "content": "x" * 100_000}])
        assert caught.value.code == "context_length_exceeded"

    def test_everybody_fails(self, client: openai.OpenAI, host: SimulatedHost) -> None:
        host.fail("http_error")
        with pytest.raises(openai.InternalServerError) as caught:
            say(client)
        assert (caught.value.status_code, caught.value.type) == (502, "server_error")
        assert caught.value.code == "all_attempts_failed"
        assert caught.value.request_id

    def test_a_refusal_is_passed_on(self, client: openai.OpenAI, host: SimulatedHost) -> None:
        host.fail("http_error", status=400, message="that is too rude")
        with pytest.raises(openai.BadRequestError, match="too rude"):
            say(client)


class TestFailover:
    FAULTS = ("http_error", "html", "cut", "reset", "error_line", "malformed_json", "no_end")

    @pytest.mark.parametrize("fault", FAULTS[:-1])
    def test_before_the_first_token_it_is_invisible(
        self, client: openai.OpenAI, served: Served, host: SimulatedHost, fault: str
    ) -> None:
        host.fail(fault, model="alpha:1b")
        chunks = list(say(client, stream=True))
        assert {chunk.model for chunk in chunks} == {"beta:1b"}
        assert text_of(chunks)
        (record,) = served.records()
        assert (record.status, record.fallback_used) == (200, True)
        assert record.attempts[0].error_type.startswith("upstream_")

    @pytest.mark.parametrize("fault", FAULTS[2:])
    def test_after_it_the_stream_says_that_it_is_broken(
        self, client: openai.OpenAI, served: Served, host: SimulatedHost, fault: str
    ) -> None:
        host.fail(fault, model="alpha:1b", after_tokens=3)
        stream = say(client, stream=True)
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        assert caught.value.code is not None
        assert str(caught.value.code).startswith("upstream_")
        (record,) = served.records()
        assert (record.success, record.status) == (False, 502)
        assert record.selected_model == "alpha:1b"
        assert record.completion_tokens > 0

    def test_a_broken_stream_has_no_end_marker(self, served: Served, host: SimulatedHost) -> None:
        host.fail("cut", after_tokens=3)
        answer = httpx.post(f"{served.url}/v1/chat/completions", json=STREAMED)
        events = [e for e in answer.text.split("\n\n") if e]
        assert "[DONE]" not in answer.text
        assert json.loads(events[-1].removeprefix("data: "))["error"]["type"] == "server_error"

    def test_a_model_that_breaks_its_streams_is_left(
        self, served: Served, host: SimulatedHost
    ) -> None:
        host.fail("cut", model="alpha:1b", after_tokens=3)
        told = [httpx.post(f"{served.url}/v1/chat/completions", json=STREAMED) for _ in range(6)]
        assert "[DONE]" not in told[0].text
        assert "[DONE]" in told[-1].text
        assert '"beta:1b"' in told[-1].text


async def test_closing_a_stream_ends_the_work(
    client: openai.OpenAI, served: Served, host: SimulatedHost
) -> None:
    host.fail("silence", after_tokens=3)
    stream = say(client, stream=True)
    next(iter(stream))
    stream.close()
    await soon(lambda: host.sim.cancelled == 1)
    await soon(lambda: served.stage.quiet())
    (record,) = served.records()
    assert (record.status, record.error_type) == (499, "caller_left")


def test_a_real_engine_behind_it(tmp_path: Path, llama_server: Engine) -> None:
    policy = document((model(llama_server.model),), (at(llama_server.base_url, provider="openai"),))
    with (
        serving(tmp_path / "spool", policy) as served,
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client,
    ):
        whole = say(client, temperature=0, max_tokens=8)
        usage = {"stream_options": {"include_usage": True}}
        chunks = list(say(client, temperature=0, max_tokens=8, stream=True, **usage))
    assert text_of(chunks) == whole.choices[0].message.content
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 8

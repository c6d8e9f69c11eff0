"""OpenAI's own Python client has to be content with the simulator."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fixtures_engines import SimulatedHost

MODEL = "llama3.2:1b"
HELLO: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]


@pytest.fixture
def client(simulator: SimulatedHost) -> Iterator[openai.OpenAI]:
    url = f"{simulator.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", timeout=10, max_retries=0) as client:
        yield client


def test_models_are_listed_and_retrieved(client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert MODEL in listed
    assert client.models.retrieve(MODEL).id == MODEL


def test_a_whole_answer_carries_its_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens) == (8, 5)
    assert answer.usage.total_tokens == 13


def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    stream = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content
    assert deltas[0].role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_has_no_usage_unless_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_completion_tokens=3, stream=True
    )
    chunks = list(stream)
    assert [bool(chunk.choices) for chunk in chunks] == [True] * 5  # role, three tokens, end
    assert all(chunk.usage is None for chunk in chunks)


def test_completions_answer_and_stream(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt="Once", max_tokens=5, temperature=0)
    stream = client.completions.create(
        model=MODEL, prompt="Once", max_tokens=5, temperature=0, stream=True
    )
    text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
    assert text == whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 5


def test_stop_sequences_end_the_answer_before_them(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    text = whole.choices[0].message.content or ""
    word = text.split()[4]
    cut = client.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, stop=word)
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"


def test_tool_calls_arrive_whole_and_streamed(client: openai.OpenAI) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools: list[Any] = [
        {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    ]
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, tools=tools)
    assert whole.choices[0].finish_reason == "tool_calls"
    calls: Any = whole.choices[0].message.tool_calls
    assert (calls[0].function.name, calls[0].function.arguments) == (
        "weather",
        '{"city":"simulated"}',
    )
    with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=tools) as stream:
        final: Any = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "weather"


def test_embeddings_come_as_floats_and_as_base64(client: openai.OpenAI) -> None:
    model = "nomic-embed-text"
    packed = client.embeddings.create(model=model, input=["one", "two"])
    plain = client.embeddings.create(model=model, input="one", encoding_format="float")
    assert [len(item.embedding) for item in packed.data] == [768, 768]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert plain.usage.prompt_tokens == 1


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nope' not found"):
        client.chat.completions.create(model="nope", messages=HELLO)


def test_no_messages_are_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[])
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_error_statuses_raise_the_clients_errors(
    client: openai.OpenAI, simulator: SimulatedHost, status: int, error: type[Exception]
) -> None:
    simulator.fail("http_error", status=status, message="on purpose")
    with pytest.raises(error, match="on purpose"):
        client.chat.completions.create(model=MODEL, messages=HELLO)


def test_an_error_inside_a_stream_is_raised(
    client: openai.OpenAI, simulator: SimulatedHost
) -> None:
    simulator.fail("error_line", after_tokens=2, message="the runner died")
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="the runner died"):
        list(stream)

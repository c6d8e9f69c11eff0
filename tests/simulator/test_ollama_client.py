"""Ollama's own Python client has to be content with the simulator."""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest

from tests.fixtures_engines import TLS, SimulatedHost

HELLO: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
GREEDY = {"temperature": 0, "num_predict": 8}


@pytest.fixture
def client(simulator: SimulatedHost) -> Iterator[ollama.Client]:
    with ollama.Client(simulator.url, timeout=10, verify=TLS) as client:
        yield client


def test_list_names_every_model_with_its_size(client: ollama.Client) -> None:
    models = {model.model: model for model in client.list().models}
    assert {"llama3.2:1b", "llama3.1:70b", "nomic-embed-text:latest"} <= models.keys()
    big = models["llama3.1:70b"]
    assert big.size == 42_520_000_000
    assert big.modified_at is not None
    assert big.details is not None
    assert (big.details.family, big.details.quantization_level) == ("llama", "Q4_K_M")


def test_show_gives_what_the_kv_cache_is_computed_from(client: ollama.Client) -> None:
    shown = client.show("qwen2.5-coder:7b")
    assert shown.capabilities == ["completion", "tools", "insert"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.architecture"] == "qwen2"
    keys = ("context_length", "block_count", "attention.head_count", "attention.head_count_kv")
    assert [shown.modelinfo[f"qwen2.{key}"] for key in keys] == [32768, 28, 28, 4]


def test_generate_reports_counts_and_nanoseconds(client: ollama.Client) -> None:
    answer = client.generate("llama3.2:1b", "Why is the sky blue?", options=GREEDY)
    assert answer.done
    assert answer.done_reason == "length"
    assert (answer.prompt_eval_count, answer.eval_count) == (5, 8)
    assert answer.load_duration is not None
    assert answer.total_duration is not None
    # A hundred times as fast as life: the load takes 9.6 ms instead of 0.96 s.
    assert 9_000_000 < answer.load_duration < answer.total_duration < 10**9


def test_a_streamed_chat_is_the_whole_one_in_pieces(client: ollama.Client) -> None:
    whole = client.chat("llama3.2:1b", HELLO, options=GREEDY)
    parts = list(client.chat("llama3.2:1b", HELLO, options=GREEDY, stream=True))
    assert [part.done for part in parts] == [False] * 8 + [True]
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert parts[-1].eval_count == whole.eval_count == 8
    assert parts[0].eval_count is None


def test_a_thinking_model_thinks_first_unless_told_not_to(client: ollama.Client) -> None:
    thoughtful = client.chat("deepseek-r1:7b", HELLO)
    assert thoughtful.message.thinking
    assert client.chat("deepseek-r1:7b", HELLO, think=False).message.thinking is None
    with pytest.raises(ollama.ResponseError, match="does not support thinking"):
        client.chat("llama3.2:1b", HELLO, think=True)


def test_a_model_with_tools_calls_the_first_one(client: ollama.Client) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    message = client.chat("llama3.2:1b", HELLO, tools=[tool]).message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.name == "weather"
    assert message.tool_calls[0].function.arguments == {"city": "simulated"}
    told: list[Any] = [
        *HELLO,
        message,
        {"role": "tool", "tool_name": "weather", "content": "11 degrees"},
    ]
    assert client.chat("llama3.2:1b", told, tools=[tool]).message.content
    with pytest.raises(ollama.ResponseError, match="gemma2:9b does not support tools"):
        client.chat("gemma2:9b", HELLO, tools=[tool])


def test_a_schema_is_followed(client: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer"}, "kind": {"enum": ["cat", "dog"]}},
    }
    answer = client.generate("llama3.2:1b", "Describe it.", format=schema)
    assert answer.response == '{"age":1,"kind":"cat"}'


def test_embed_takes_one_text_or_several(client: ollama.Client) -> None:
    several = client.embed("nomic-embed-text", ["one", "two"])
    one = client.embed("nomic-embed-text", "one")
    assert [len(vector) for vector in several.embeddings] == [768, 768]
    assert one.embeddings[0] == several.embeddings[0] != several.embeddings[1]
    assert sum(value * value for value in one.embeddings[0]) == pytest.approx(1)
    assert len(client.embed("nomic-embed-text", "one", dimensions=64).embeddings[0]) == 64
    assert list(client.embeddings("nomic-embed-text", "one").embedding) == one.embeddings[0]


def test_an_empty_prompt_loads_and_keep_alive_zero_unloads(client: ollama.Client) -> None:
    assert client.generate("llama3.2:1b", keep_alive="10m").done_reason == "load"
    [running] = client.ps().models
    assert (running.model, running.context_length) == ("llama3.2:1b", 4096)
    # Weights, 4096 tokens of KV cache in 16 layers of 8 heads of 64, and the graph.
    assert running.size == 1_321_000_000 + 2 * 16 * 8 * 64 * 4096 * 2 + 3 * 2**28
    assert client.generate("llama3.2:1b", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []


def test_a_chat_without_messages_loads_too(client: ollama.Client) -> None:
    assert client.chat("phi3:mini").done_reason == "load"
    assert client.chat("phi3:mini", keep_alive=0).done_reason == "unload"


def test_an_unknown_model_is_ollamas_404(client: ollama.Client) -> None:
    for ask in (client.generate, client.show, client.embed):
        with pytest.raises(ollama.ResponseError) as caught:
            ask("nope:7b")
        assert caught.value.status_code == 404
        assert caught.value.error == "model 'nope:7b' not found"


def test_an_embedding_model_refuses_to_chat(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match='"nomic-embed-text" does not support chat'):
        client.chat("nomic-embed-text", HELLO)


def test_an_error_inside_a_stream_is_raised(
    client: ollama.Client, simulator: SimulatedHost
) -> None:
    simulator.fail("error_line", after_tokens=2, message="the runner died")
    stream = client.generate("llama3.2:1b", "Hi", stream=True)
    assert [next(stream).done for _ in range(2)] == [False, False]
    with pytest.raises(ollama.ResponseError, match="the runner died"):
        next(stream)

"""The Ollama adapter: the contract, and what is particular to its protocol."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from routing.engine.errors import RefusedByUpstream, StreamCut, UpstreamFault
from routing.providers.base import Call, Provider
from routing.providers.ollama import NotSayable, OllamaProvider, request
from tests.providers.contract import HELLO, HELLO_CHAT, ProviderContract
from tests.providers.upstream import Upstream, answer, streamed, upstream

COUNTS = {
    "prompt_eval_count": 3,
    "eval_count": 2,
    "load_duration": 1_500_000,
    "eval_duration": 2_500_000,
}
LAST = {"done": True, "done_reason": "length"}


def line(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def said(text: str, **more: Any) -> bytes:
    """Return a line of a chat; /api/generate's `response` says the same."""
    message = {"role": "assistant", "content": text}
    return line(model="m", message=message, response=text, **{"done": False, **more})


def called(*functions: Any, **more: Any) -> bytes:
    calls = [{"function": function} for function in functions]
    return line(message={"content": "", "tool_calls": calls}, **{"done": False, **more})


class TestOllama(ProviderContract):
    def make(self, url: str, key: str = "") -> Provider:
        return OllamaProvider("acme", url, key)

    def whole(self, text: str) -> bytes:
        return said(text, **LAST, **COUNTS)

    def without_usage(self, text: str) -> bytes:
        return said(text, done=True)

    def parts(self, *texts: str) -> list[bytes]:
        return [*(said(text) for text in texts), said("", **LAST, **COUNTS)]

    def error(self, message: str) -> bytes:
        return line(error=message)

    def error_part(self, message: str) -> bytes:
        return self.error(message)

    def vectors(self, *vectors: list[float]) -> bytes:
        return line(embeddings=vectors, prompt_eval_count=4, load_duration=0)

    async def test_half_an_answer_is_none(self, server: Upstream, provider: Provider) -> None:
        server.will(answer(said("a")))
        with pytest.raises(StreamCut):
            await provider.complete(HELLO_CHAT)

    async def test_the_time_of_load_and_of_generation_is_told(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(self.whole("a")))
        told = await provider.complete(HELLO)
        assert (told.load_ms, told.work_ms) == (1.5, 2.5)

    async def test_a_cached_prompt_is_reported_without_its_count(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(said("a", done=True, eval_count=2)))
        usage = (await provider.complete(HELLO)).usage
        assert usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (0, 2)

    @pytest.mark.parametrize("text", [None, ""])
    async def test_a_message_may_have_no_text(
        self, server: Upstream, provider: Provider, text: str | None
    ) -> None:
        server.will(answer(line(message={"content": text}, done=True)))
        assert (await provider.complete(HELLO_CHAT)).text == ""

    async def test_blank_lines_and_line_ends_of_windows(
        self, server: Upstream, provider: Provider
    ) -> None:
        data = b"\r\n\n".join(self.parts("a", "b")).rstrip()
        server.will(streamed(data))
        assert "".join(piece.text for piece in await self.read(provider)) == "ab"

    async def test_thoughts_are_no_text(self, server: Upstream, provider: Provider) -> None:
        thinking = line(message={"content": "", "thinking": "Hm."}, done=False)
        server.will(streamed(thinking, *self.parts("a")))
        assert "".join(piece.text for piece in await self.read(provider)) == "a"

    # Tools.

    async def test_arguments_become_json_in_a_string(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(called({"name": "f", "arguments": {"a": "ü"}}, done=True)))
        told = await provider.complete(HELLO_CHAT)
        assert (told.text, told.finish_reason) == ("", "tool_calls")
        (call,) = told.tool_calls or []
        assert call["function"] == {"name": "f", "arguments": '{"a":"ü"}'}
        assert call["type"] == "function"

    async def test_calls_of_several_lines_are_numbered_through(
        self, server: Upstream, provider: Provider
    ) -> None:
        first = called({"name": "f", "arguments": {}}, {"name": "g", "arguments": None})
        server.will(streamed(first, called({"name": "f"}), said("", done=True)))
        pieces = await self.read(provider)
        calls = [call for piece in pieces for call in piece.tool_calls or []]
        assert [(c["index"], c["function"]["name"]) for c in calls] == [
            (0, "f"),
            (1, "g"),
            (2, "f"),
        ]
        assert len({call["id"] for call in calls}) == 3
        assert pieces[-1].finish_reason == "tool_calls"

    @pytest.mark.parametrize("function", ["f", None, {"name": 5}, {"name": "f", "arguments": "x"}])
    async def test_calls_that_are_not_the_protocol(
        self, server: Upstream, provider: Provider, function: Any
    ) -> None:
        server.will(answer(called(function, done=True)))
        await self.error_of(provider)


async def test_what_it_cannot_say_is_the_callers_to_change() -> None:
    image = {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}
    call = Call(model="m", messages=[{"role": "user", "content": [image]}])
    provider = OllamaProvider("acme", "http://127.0.0.1:1")
    with pytest.raises(RefusedByUpstream, match="'acme': Send images inline"):
        await provider.complete(call)
    with pytest.raises(RefusedByUpstream, match="'acme': Send images inline"):
        await anext(provider.stream(call))


class TestRequest:
    """How a call is written: options by name, load options as pinned."""

    def test_a_prompt_is_generated_from(self) -> None:
        path, body = request(HELLO, stream=False)
        assert (path, body) == ("/api/generate", {"model": "m", "stream": False, "prompt": "Hello"})

    def test_messages_are_a_chat(self) -> None:
        path, body = request(HELLO_CHAT, stream=True)
        assert (path, body["stream"]) == ("/api/chat", True)
        assert body["messages"] == [{"role": "user", "content": "Hello"}]

    def test_options_and_load_options(self) -> None:
        params = {"top_p": 0.5, "seed": 7, "stop": "END", "user": "me", "logit_bias": {}}
        call = Call(
            model="m", prompt="x", max_tokens=5, temperature=0.0, params=params,
            num_ctx=4096, keep_alive="7m",
        )  # fmt: skip
        _, body = request(call, stream=False)
        assert body["options"] == {
            "top_p": 0.5, "seed": 7, "stop": ["END"], "num_predict": 5, "temperature": 0.0,
            "num_ctx": 4096,
        }  # fmt: skip
        assert body["keep_alive"] == "7m"

    def test_nothing_is_said_of_what_nobody_asked_for(self) -> None:
        _, body = request(HELLO, stream=False)
        assert not {"options", "keep_alive", "format"} & body.keys()

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ({"type": "json_object"}, "json"),
            ({"type": "json_schema", "json_schema": {"schema": {"a": 1}}}, {"a": 1}),
            ({"type": "text"}, None),
        ],
    )
    def test_formats(self, asked: dict[str, Any], told: Any) -> None:
        call = Call(model="m", prompt="x", params={"response_format": asked})
        assert request(call, stream=False)[1].get("format") == told

    @pytest.mark.parametrize(("choice", "told"), [("auto", True), ("none", False)])
    def test_tools_that_may_not_be_called_are_not_told(self, choice: str, told: bool) -> None:
        params = {"tools": [{"type": "function"}], "tool_choice": choice}
        _, body = request(Call(model="m", messages=[], params=params), stream=False)
        assert ("tools" in body) is told

    def message(self, **message: Any) -> dict[str, Any]:
        _, body = request(Call(model="m", messages=[message]), stream=False)
        (told,) = body["messages"]
        assert isinstance(told, dict)
        return told

    @pytest.mark.parametrize(("role", "told"), [("developer", "system"), ("function", "tool")])
    def test_roles_it_does_not_know(self, role: str, told: str) -> None:
        assert self.message(role=role, content="x")["role"] == told

    def test_parts_become_text_and_images(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
        texts = [{"type": "text", "text": "What"}, image, {"type": "text", "text": "is it?"}]
        told = self.message(role="user", content=texts)
        assert told == {"role": "user", "content": "What\nis it?", "images": ["QUJD"]}

    def test_a_text_may_be_empty(self) -> None:
        assert self.message(role="user", content=[{"type": "text", "text": None}])["content"] == ""

    @pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "/etc/passwd", "", None])
    def test_no_address_that_a_caller_names_is_fetched_or_passed_on(self, url: Any) -> None:
        for image in (url, {"url": url or ""}):
            with pytest.raises(NotSayable, match="inline"):
                self.message(role="user", content=[{"type": "image_url", "image_url": image}])

    def test_calls_and_their_results(self) -> None:
        function = {"name": "f", "arguments": '{"a": 1}'}
        told = self.message(role="assistant", content=None, tool_calls=[{"function": function}])
        assert told["tool_calls"] == [{"function": {"name": "f", "arguments": {"a": 1}}}]
        assert self.message(role="tool", content="5", name="f")["tool_name"] == "f"
        assert "tool_name" not in self.message(role="user", content="5", name="Bob")

    def test_a_result_is_given_the_name_of_its_call(self) -> None:
        calls = [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]
        messages: list[dict[str, Any]] = [
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "5"},
        ]
        _, body = request(Call(model="m", messages=messages), stream=False)
        assert body["messages"][1]["tool_name"] == "f"

    @pytest.mark.parametrize("arguments", ["{", "5", "[]", "null", "[" * 100_000])
    def test_arguments_that_are_no_object_are_none(self, arguments: str) -> None:
        calls = [{"function": {"name": "f", "arguments": arguments}}]
        told = self.message(role="assistant", tool_calls=calls)
        assert told["tool_calls"][0]["function"]["arguments"] == {}


@asynccontextmanager
async def served(server: Upstream) -> AsyncIterator[OllamaProvider]:
    provider = OllamaProvider("acme", server.url)
    yield provider
    await provider.close()


async def test_every_call_pins_the_same_load_options() -> None:
    async with upstream() as server, served(server) as provider:
        pins: dict[str, Any] = {"num_ctx": 8192, "keep_alive": "30m"}
        line_ = said("a", **LAST, **COUNTS)
        vectors = line(embeddings=[[1.0]])
        server.will(answer(line_), answer(line_), answer(vectors), answer(line_), answer(vectors))
        await provider.complete(Call(model="m", prompt="p", **pins))
        await provider.complete(Call(model="m", messages=[], params={"num_ctx": 1}, **pins))
        await provider.embed(Call(model="m", inputs=["p"], **pins))
        await provider.load(Call(model="m", **pins))
        await provider.load(Call(model="m", inputs=[], **pins))
        told = [asked.body for asked in server.asked]
        assert [body["options"] for body in told] == [{"num_ctx": 8192}] * 5
        assert [body["keep_alive"] for body in told] == ["30m"] * 5
        assert [asked.path for asked in server.asked][-2:] == ["/api/generate", "/api/embed"]
        assert "prompt" not in told[3]
        assert told[4]["input"] == []


async def test_models_are_unloaded_and_listed() -> None:
    async with upstream() as server, served(server) as provider:
        server.will(answer(said("", done=True)), answer(line(models=[{"name": "m", "size": 5}])))
        await provider.unload("m")
        assert server.asked[0].body == {"model": "m", "keep_alive": 0}
        assert await provider.loaded() == {"m"}


async def test_an_error_in_the_answer_is_no_load() -> None:
    async with upstream() as server, served(server) as provider:
        server.will(answer(line(error="out of memory")))
        with pytest.raises(UpstreamFault):
            await provider.load(Call(model="m"))

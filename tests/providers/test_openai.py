"""The OpenAI adapter: the contract, and what is particular to its protocol."""

import json
from typing import Any

import pytest

from routing.providers.base import Answer, Call, Piece, Provider
from routing.providers.openai import OpenAIProvider, api_base
from tests.providers.contract import HELLO, HELLO_CHAT, ProviderContract
from tests.providers.upstream import Upstream, answer, streamed

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    said = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": {**said, **more}, "finish_reason": finish}]}


DONE = b"data: [DONE]\n\n"


class TestOpenAI(ProviderContract):
    def make(self, url: str, key: str = "") -> Provider:
        return OpenAIProvider("acme", url, key)

    def whole(self, text: str) -> bytes:
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "length"}]
        return json.dumps({"id": "x", "choices": choices, "usage": USAGE}).encode()

    def without_usage(self, text: str) -> bytes:
        return json.dumps({"choices": [{"message": {"content": text}}]}).encode()

    def parts(self, *texts: str) -> list[bytes]:
        usage = {"choices": [], "usage": USAGE}
        pieces = [delta(text) for text in texts]
        return [*map(event, pieces), event(delta(finish="length")) + event(usage) + DONE]

    def error(self, message: str) -> bytes:
        return json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()

    def error_part(self, message: str) -> bytes:
        return b"data: " + self.error(message) + b"\n\n"

    def vectors(self, *vectors: list[float]) -> bytes:
        # Out of order: the index says which text a vector belongs to.
        data = [{"index": i, "embedding": v} for i, v in enumerate(vectors)][::-1]
        return json.dumps({"data": data, "usage": {"prompt_tokens": 4}}).encode()

    async def texts(self, server: Upstream, provider: Provider, *parts: bytes) -> str:
        server.will(streamed(*parts))
        return "".join(piece.text for piece in await self.read(provider))

    @pytest.mark.parametrize(
        "usage",
        [
            {"prompt_tokens": None, "completion_tokens": None},
            {"prompt_tokens": 3.5, "completion_tokens": 2},
            {"prompt_tokens": "3", "completion_tokens": "2"},
            {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": [1]},
            {"prompt_tokens": 3},
            {"completion_tokens": 2},
            {},
            [3, 2],
            "much",
        ],
    )
    async def test_a_count_that_is_none_spoils_no_answer(
        self, server: Upstream, provider: Provider, usage: Any
    ) -> None:
        choices = [{"message": {"content": "Hi"}}]
        server.will(answer(json.dumps({"choices": choices, "usage": usage}).encode()))
        assert await provider.complete(HELLO_CHAT) == Answer(text="Hi")
        # Some servers count in every part.
        parts = [event({**delta(text), "usage": usage}) for text in ("H", "i")]
        assert await self.texts(server, provider, *parts, event(delta(finish="stop")), DONE) == "Hi"

    # Server-sent events.

    @pytest.mark.parametrize(
        "data",
        [
            b"data: %s\r\n\r\ndata: [DONE]\r\n\r\n",
            b": hello\n\ndata: %s\n\n: ping\n\ndata: [DONE]\n\n",
            b"event: x\nid: 1\nretry: 5\ndata: %s\n\ndata: [DONE]\n\n",
            b"data:\ndata:%s\n\ndata:[DONE]\n\n",
            b"\n\n\ndata: %s\n\n\n\ndata: [DONE]\n\n",
            b"data: %s\n\ndata: [DONE]",
        ],
        ids=["crlf", "comments", "other fields", "many lines", "blank lines", "no last line end"],
    )
    async def test_dialects_of_events(
        self, server: Upstream, provider: Provider, data: bytes
    ) -> None:
        told = data % json.dumps(delta("a")).encode()
        assert await self.texts(server, provider, told) == "a"
        assert await self.texts(server, provider, *(bytes([b]) for b in told)) == "a"

    async def test_a_finish_reason_ends_an_answer_even_without_done(
        self, server: Upstream, provider: Provider
    ) -> None:
        parts = event(delta("a")), event(delta(finish="stop"))
        assert await self.texts(server, provider, *parts) == "a"

    async def test_what_follows_done_is_not_read(
        self, server: Upstream, provider: Provider
    ) -> None:
        assert (
            await self.texts(server, provider, event(delta("a")), DONE + event(delta("b"))) == "a"
        )

    async def test_announcements_of_a_role_are_no_text(
        self, server: Upstream, provider: Provider
    ) -> None:
        opening = event(delta(None, role="assistant")), event(delta("", role="assistant"))
        assert await self.texts(server, provider, *opening, event(delta("a")), DONE) == "a"

    # Tools.

    async def test_tool_calls_of_a_whole_answer(self, server: Upstream, provider: Provider) -> None:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        message = {"content": None, "tool_calls": [call]}
        choices = [{"message": message, "finish_reason": "tool_calls"}]
        server.will(answer(json.dumps({"choices": choices})))
        told = await provider.complete(HELLO_CHAT)
        assert (told.text, told.finish_reason, told.tool_calls) == ("", "tool_calls", [call])

    async def test_tool_calls_of_a_stream_come_in_fragments(
        self, server: Upstream, provider: Provider
    ) -> None:
        fragments: list[Any] = [
            [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}],
            [{"index": 0, "function": {"arguments": '{"a"'}}],
            [{"index": 0, "function": {"arguments": ": 1}"}}],
        ]
        parts = [event(delta(tool_calls=fragment)) for fragment in fragments]
        server.will(streamed(*parts, event(delta(finish="tool_calls")), DONE))
        pieces = await self.read(provider)
        assert pieces[:3] == [Piece(tool_calls=fragment) for fragment in fragments]
        assert pieces[3].finish_reason == "tool_calls"

    # What is asked.

    async def test_the_request(self, server: Upstream, provider: Provider) -> None:
        server.will(answer(self.whole("a")))
        params = {"top_p": 0.5, "tools": [{"type": "function"}], "logit_bias": {"5": 1}}
        messages = [{"role": "user", "content": "Hello"}]
        call = Call(model="m", messages=messages, max_tokens=7, temperature=0.25, params=params)
        await provider.complete(call)
        assert server.asked[0].path == "/v1/chat/completions"
        assert server.asked[0].body == {
            **params, "model": "m", "messages": messages, "max_tokens": 7, "temperature": 0.25,
        }  # fmt: skip

    async def test_a_prompt_becomes_a_message(self, server: Upstream, provider: Provider) -> None:
        server.will(answer(self.whole("a")))
        await provider.complete(HELLO)
        message = {"role": "user", "content": "Hello"}
        assert server.asked[0].body == {"model": "m", "messages": [message]}

    async def test_a_stream_asks_for_its_usage(self, server: Upstream, provider: Provider) -> None:
        server.will(streamed(*self.parts("a")))
        await self.read(provider)
        body = server.asked[0].body
        assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})

    async def test_embeddings_are_asked_for_as_numbers(
        self, server: Upstream, provider: Provider
    ) -> None:
        server.will(answer(self.vectors([1.0])))
        await provider.embed(Call(model="m", inputs=["one"]))
        assert server.asked[0].path == "/v1/embeddings"
        assert server.asked[0].body == {"model": "m", "input": ["one"], "encoding_format": "float"}


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a", "http://a/v1"),
        ("http://a/", "http://a/v1"),
        ("http://a:1/v1", "http://a:1/v1"),
        ("http://a/v1/", "http://a/v1"),
        ("https://a/openai/v3", "https://a/openai/v3"),
    ],
)
def test_a_bare_origin_gets_the_usual_path(url: str, base: str) -> None:
    assert api_base(url) == base

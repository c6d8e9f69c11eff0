"""An upstream that speaks OpenAI's chat and embedding API: vLLM, llama.cpp, a cloud."""

from collections.abc import AsyncIterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from routing.engine.errors import MalformedAnswer, StreamCut, UpstreamFault
from routing.providers.base import Answer, Call, Piece, Usage
from routing.providers.sse import PartTooLong, events
from routing.providers.transport import UNDECODABLE, Transport


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Read(msgspec.Struct):
    """What an embedding counts; of a text, what was read for it."""

    prompt_tokens: int
    prompt_tokens_details: _PromptDetails | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details else 0


class _Usage(_Read, kw_only=True):
    completion_tokens: int


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Delta(_Message):
    """`reasoning_content` is what vLLM and DeepSeek say; `reasoning` is OpenRouter's word."""

    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: Any = None  # a `_Usage`, if it is to be believed
    error: Any = None


class _ChunkChoice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] = msgspec.field(default_factory=list)
    usage: Any = None
    error: Any = None


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Vector]
    usage: Any = None


_Count = TypeVar("_Count", bound=_Read)

_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode


def api_base(base_url: str) -> str:
    """Return the URL that `/chat/completions` is appended to.

    The OpenAI client's own convention is a base URL that ends in `/v1`; a bare origin gets it.
    """
    base = base_url.rstrip("/")
    return base if urlsplit(base).path else f"{base}/v1"


class OpenAIProvider:
    """Adapter to one OpenAI-compatible endpoint; see `Provider` for the contract."""

    def __init__(self, endpoint: str, base_url: str, api_key: str = "") -> None:
        self.endpoint = endpoint
        self._http = Transport(endpoint, api_base(base_url), api_key)

    async def complete(self, call: Call) -> Answer:
        content = await self._http.post("/chat/completions", payload(call))
        try:
            completion = _decode_completion(content)
        except UNDECODABLE as exc:
            raise self._malformed() from exc
        if completion.error is not None:
            raise self._reported()
        if not completion.choices:
            raise self._malformed()
        choice = completion.choices[0]
        return Answer(
            text=choice.message.content or "",
            finish_reason=choice.finish_reason or "stop",
            tool_calls=choice.message.tool_calls or None,
            usage=_usage(completion.usage),
        )

    async def stream(self, call: Call) -> AsyncIterator[Piece]:
        body = payload(call) | {"stream": True, "stream_options": {"include_usage": True}}
        finished = spoke = called = False
        async with self._http.stream("/chat/completions", body) as chunks:
            async for data in self._events(chunks):
                if data == b"[DONE]":
                    if spoke and not called and not finished:
                        yield Piece(finish_reason="stop")
                    return
                piece = self._piece(data)
                spoke, called = spoke or bool(piece.text), called or bool(piece.tool_calls)
                finished = finished or piece.finish_reason is not None
                yield piece
        # Some servers close without [DONE]; after a finish reason the answer is whole all the same.
        if not finished:
            raise StreamCut(
                self.endpoint, f"Endpoint '{self.endpoint}' ended its stream without an end marker."
            )

    async def embed(self, call: Call) -> Answer:
        content = await self._http.post(
            "/embeddings", {"model": call.model, "input": call.inputs, "encoding_format": "float"}
        )
        try:
            embeddings = _decode_embeddings(content)
        except UNDECODABLE as exc:
            raise self._malformed() from exc
        vectors = [v.embedding for v in sorted(embeddings.data, key=lambda v: v.index)]
        if len(vectors) != len(call.inputs or ()):
            raise self._malformed()
        return Answer(vectors=vectors, usage=_usage_of_reading(embeddings.usage))

    async def close(self) -> None:
        await self._http.close()

    async def _events(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for data in events(chunks):
                yield data
        except PartTooLong as exc:
            raise self._malformed() from exc

    def _piece(self, data: bytes) -> Piece:
        try:
            chunk = _decode_chunk(data)
        except UNDECODABLE as exc:
            raise self._malformed() from exc
        if chunk.error is not None:
            raise self._reported()
        if not chunk.choices:
            return Piece(usage=_usage(chunk.usage))
        choice = chunk.choices[0]
        return Piece(
            text=choice.delta.content or "",
            tool_calls=choice.delta.tool_calls or None,
            finish_reason=choice.finish_reason,
            usage=_usage(chunk.usage),
            thinking=bool(choice.delta.reasoning_content or choice.delta.reasoning),
        )

    def _reported(self) -> UpstreamFault:
        said = f"Endpoint '{self.endpoint}' reported an error in its answer."
        return UpstreamFault(self.endpoint, said)

    def _malformed(self) -> MalformedAnswer:
        return MalformedAnswer(
            self.endpoint, f"Endpoint '{self.endpoint}' sent a body that is not OpenAI's protocol."
        )


def payload(call: Call) -> dict[str, Any]:
    """Return the request body of `/chat/completions` for `call`."""
    messages = call.messages or [{"role": "user", "content": call.prompt or ""}]
    body: dict[str, Any] = {**call.params, "model": call.model, "messages": messages}
    if call.prefill:
        body["messages"] = [*messages, {"role": "assistant", "content": call.prefill}]
        # What vLLM and SGLang need to go on from a message instead of answering it.
        body["add_generation_prompt"], body["continue_final_message"] = False, True
    if call.max_tokens is not None:
        body["max_tokens"] = call.max_tokens
    if call.temperature is not None:
        body["temperature"] = call.temperature
    return body


def _usage(said: Any) -> Usage | None:
    """Return what was counted for a text; None where it was not, or only by half."""
    usage = _counted(said, _Usage)
    if usage is None:
        return None
    return Usage(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)


def _usage_of_reading(said: Any) -> Usage | None:
    """Return what was counted for an embedding; None where it was not."""
    read = _counted(said, _Read)
    return Usage(read.prompt_tokens, 0, read.cached_tokens) if read else None


def _counted(said: Any, kind: type[_Count]) -> _Count | None:
    """Return a count as its kind; None where it is none, which makes no answer a worse one."""
    if said is None:
        return None
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError:
        return None

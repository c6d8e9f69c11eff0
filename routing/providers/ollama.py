"""An Ollama server, in its native protocol, with its load options pinned."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from routing.engine.errors import MalformedAnswer, RefusedByUpstream, StreamCut, UpstreamFault
from routing.providers.base import Answer, Call, Piece, Usage
from routing.providers.sse import PartTooLong, lines
from routing.providers.transport import UNDECODABLE, Transport

# OpenAI's parameter names that Ollama takes as options, unchanged.
_OPTIONS = ("top_p", "top_k", "seed", "stop", "frequency_penalty", "presence_penalty", "min_p")
# Roles of OpenAI's that Ollama's templates would silently leave out, and what they mean there.
_ROLES = {"developer": "system", "function": "tool"}
_NS_PER_MS = 1_000_000


class _Function(msgspec.Struct):
    name: str = ""
    arguments: dict[str, Any] | None = None


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    thinking: str | None = None


class _Line(msgspec.Struct):
    """One object of /api/generate (`response`) or /api/chat (`message`)."""

    done: bool = False
    response: str = ""
    thinking: str | None = None
    message: _Message | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    load_duration: int = 0  # nanoseconds, like every duration
    total_duration: int = 0
    prompt_eval_duration: int = 0
    eval_duration: int = 0
    error: str | None = None

    @property
    def busy_ms(self) -> float:
        return (self.prompt_eval_duration + self.eval_duration) / _NS_PER_MS

    @property
    def waited_ms(self) -> float | None:
        """Return how long the request waited inside: what it took beyond all the work."""
        if self.total_duration <= 0:
            return None
        return max(0.0, (self.total_duration - self.load_duration) / _NS_PER_MS - self.busy_ms)

    @property
    def text(self) -> str:
        return (self.message.content or "") if self.message else self.response

    @property
    def thinks(self) -> bool:
        return bool(self.message.thinking if self.message else self.thinking)

    @property
    def usage(self) -> Usage | None:
        # A prompt answered from the cache is reported without its count.
        if self.eval_count is None:
            return None
        return Usage(self.prompt_eval_count or 0, self.eval_count)


class _Embeddings(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int = 0
    load_duration: int = 0


class _Running(msgspec.Struct):
    name: str


class _Ps(msgspec.Struct):
    models: list[_Running] = []


_decode_ps = msgspec.json.Decoder(_Ps).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_embeddings = msgspec.json.Decoder(_Embeddings).decode


class NotSayable(ValueError):
    """Raised when a call holds what Ollama's protocol has no way of saying."""


class OllamaProvider:
    """Adapter to one Ollama server; see `Provider` for the contract."""

    def __init__(self, endpoint: str, base_url: str, api_key: str = "") -> None:
        self.endpoint = endpoint
        self._http = Transport(endpoint, base_url, api_key)

    async def complete(self, call: Call) -> Answer:
        path, body = self._request(call, stream=False)
        line = self._line(await self._http.post(path, body))
        if not line.done:
            raise StreamCut(self.endpoint, f"Endpoint '{self.endpoint}' sent half an answer.")
        calls = _tool_calls(line)
        return Answer(
            text=line.text,
            finish_reason="tool_calls" if calls else _finish(line.done_reason),
            tool_calls=calls,
            usage=line.usage,
            load_ms=line.load_duration / _NS_PER_MS,
            work_ms=line.eval_duration / _NS_PER_MS,
            waited_ms=line.waited_ms,
            busy_ms=line.busy_ms,
        )

    async def stream(self, call: Call) -> AsyncIterator[Piece]:
        path, body = self._request(call, stream=True)
        called = 0
        async with self._http.stream(path, body) as chunks:
            async for raw in self._lines(chunks):
                line = self._line(raw)
                calls = _numbered(_tool_calls(line), called)
                called += len(calls or ())
                yield self._piece(line, calls, called_tools=called > 0)
                if line.done:
                    return
        raise StreamCut(
            self.endpoint, f"Endpoint '{self.endpoint}' ended its stream without an end marker."
        )

    async def embed(self, call: Call) -> Answer:
        body = {"model": call.model, "input": call.inputs, **_pinned(call)}
        try:
            answer = _decode_embeddings(await self._http.post("/api/embed", body))
        except UNDECODABLE as exc:
            raise self._malformed() from exc
        if len(answer.embeddings) != len(call.inputs or ()):
            raise self._malformed()
        return Answer(
            vectors=answer.embeddings,
            usage=Usage(answer.prompt_eval_count, 0),
            load_ms=answer.load_duration / _NS_PER_MS,
        )

    async def load(self, call: Call) -> None:
        # A question without words loads the model; one that only embeds answers no other kind.
        body: dict[str, Any] = {"model": call.model, **_pinned(call)}
        if call.inputs is None:
            self._line(await self._http.post("/api/generate", body))
        else:
            self._line(await self._http.post("/api/embed", body | {"input": []}))

    async def unload(self, model: str) -> None:
        self._line(await self._http.post("/api/generate", {"model": model, "keep_alive": 0}))

    async def loaded(self) -> frozenset[str]:
        try:
            return frozenset(m.name for m in _decode_ps(await self._http.get("/api/ps")).models)
        except UNDECODABLE as exc:
            raise self._malformed() from exc

    async def close(self) -> None:
        await self._http.close()

    def _request(self, call: Call, *, stream: bool) -> tuple[str, dict[str, Any]]:
        try:
            return request(call, stream=stream)
        except NotSayable as exc:
            raise RefusedByUpstream(
                self.endpoint, f"Endpoint '{self.endpoint}': {exc}", status=400
            ) from exc

    async def _lines(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for raw in lines(chunks):
                if raw.strip():
                    yield raw
        except PartTooLong as exc:
            raise self._malformed() from exc

    def _line(self, raw: bytes) -> _Line:
        try:
            line = _decode_line(raw)
        except UNDECODABLE as exc:
            raise self._malformed() from exc
        if line.error is not None:
            words = self._http.quotable(line.error)
            said = f"Endpoint '{self.endpoint}' reported: {words}"
            raise UpstreamFault(self.endpoint, said)
        return line

    @staticmethod
    def _piece(line: _Line, calls: list[dict[str, Any]] | None, *, called_tools: bool) -> Piece:
        if not line.done:
            return Piece(text=line.text, tool_calls=calls, thinking=line.thinks)
        return Piece(
            text=line.text,
            tool_calls=calls,
            finish_reason="tool_calls" if called_tools else _finish(line.done_reason),
            usage=line.usage,
            load_ms=line.load_duration / _NS_PER_MS,
            waited_ms=line.waited_ms,
            busy_ms=line.busy_ms,
        )

    def _malformed(self) -> MalformedAnswer:
        return MalformedAnswer(
            self.endpoint, f"Endpoint '{self.endpoint}' sent a body that is not Ollama's protocol."
        )


def request(call: Call, *, stream: bool) -> tuple[str, dict[str, Any]]:
    """Return (path, body) for `call`: /api/generate for a prompt, /api/chat for messages.

    Raises NotSayable.
    """
    body: dict[str, Any] = {"model": call.model, "stream": stream}
    body |= _pinned(call)
    if options := _options(call):
        body["options"] = options
    if (shape := _format(call.params.get("response_format"))) is not None:
        body["format"] = shape
    messages = call.messages
    if call.prefill:
        # A last message of the assistant's is gone on from; /api/generate has no such thing.
        asked = messages or [{"role": "user", "content": call.prompt or ""}]
        messages = [*asked, {"role": "assistant", "content": call.prefill}]
    if messages is None:
        return "/api/generate", body | {"prompt": call.prompt or ""}
    # Ollama always lets the model choose; leaving the tools out is how to forbid them.
    if (tools := call.params.get("tools")) and call.params.get("tool_choice") != "none":
        body["tools"] = tools
    called = _called(messages)
    return "/api/chat", body | {"messages": [_message(m, called) for m in messages]}


def _pinned(call: Call) -> dict[str, Any]:
    """Return the load options, the same in every call: others would load the model anew."""
    pinned: dict[str, Any] = {}
    if call.num_ctx is not None:
        pinned["options"] = {"num_ctx": call.num_ctx}
    if call.keep_alive:
        pinned["keep_alive"] = call.keep_alive
    return pinned


def _options(call: Call) -> dict[str, Any]:
    options = {k: call.params[k] for k in _OPTIONS if call.params.get(k) is not None}
    if call.max_tokens is not None:
        options["num_predict"] = call.max_tokens
    if call.temperature is not None:
        options["temperature"] = call.temperature
    if call.num_ctx is not None:
        options["num_ctx"] = call.num_ctx
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    return options


def _format(response_format: Any) -> Any:
    """Return Ollama's `format` for OpenAI's `response_format`, or None."""
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == "json_object":
        return "json"
    return (response_format.get("json_schema") or {}).get("schema")


def _called(messages: list[dict[str, Any]]) -> dict[str, str]:
    """Return the functions called so far by the ids of their calls; results name only those."""
    calls = [c for m in messages for c in m.get("tool_calls") or ()]
    return {c.get("id", ""): (c.get("function") or {}).get("name", "") for c in calls}


def _message(message: dict[str, Any], called: dict[str, str]) -> dict[str, Any]:
    """Return OpenAI's message in Ollama's shape: text in one string, images beside it."""
    content = message.get("content")
    role = message.get("role", "user")
    out: dict[str, Any] = {"role": _ROLES.get(role, role), "content": content or ""}
    if isinstance(content, list):
        parts = [p for p in content if isinstance(p, dict)]
        out["content"] = "\n".join(p.get("text") or "" for p in parts if p.get("type") == "text")
        images = [_image(p) for p in parts if p.get("type") == "image_url"]
        if images:
            out["images"] = images
    if calls := message.get("tool_calls"):
        out["tool_calls"] = [_tool_call_to_ollama(c) for c in calls]
    name = message.get("name") or called.get(message.get("tool_call_id") or "")
    if name and out["role"] == "tool":
        out["tool_name"] = name
    return out


def _image(part: dict[str, Any]) -> str:
    image = part.get("image_url")
    url = image.get("url", "") if isinstance(image, dict) else str(image or "")
    _, inline, data = url.partition("base64,")
    if not inline:
        # This service fetches no address that a caller names, and Ollama fetches none at all.
        raise NotSayable("Send images inline, as data: URLs in base64.")
    return data


def _tool_call_to_ollama(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments") or "{}"
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except UNDECODABLE:
            arguments = {}
    if not isinstance(arguments, dict):
        arguments = {}
    return {"function": {"name": function.get("name", ""), "arguments": arguments}}


def _numbered(calls: list[dict[str, Any]] | None, first: int) -> list[dict[str, Any]] | None:
    """Return calls as a stream has them: numbered throughout the answer, from `first` on."""
    if calls is None:
        return None
    return [{"index": index, **call} for index, call in enumerate(calls, first)]


def _tool_calls(line: _Line) -> list[dict[str, Any]] | None:
    """Return Ollama's tool calls as OpenAI writes them: arguments are JSON in a string."""
    if line.message is None or not line.message.tool_calls:
        return None
    return [
        {
            # Callers answer by this id, and may hold several answers' calls at once.
            "id": call.id or f"call_{secrets.token_hex(8)}",
            "type": "function",
            "function": {
                "name": call.function.name,
                "arguments": msgspec.json.encode(call.function.arguments or {}).decode(),
            },
        }
        for call in line.message.tool_calls
    ]


def _finish(done_reason: str | None) -> str:
    return "length" if done_reason == "length" else "stop"

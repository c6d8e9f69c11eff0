"""OpenAI's protocol under /v1/*, with the limits and the error types Ollama's server gives it."""

import base64
import struct
from typing import Any

import msgspec

from routing.simulator.asking import Message, Options, context_of, conversation, decode, wish_for
from routing.simulator.course import Job, Refused, Reply, Simulator, Times, report
from routing.simulator.generation import Generation
from routing.simulator.models import Model
from routing.simulator.ollama_api import require
from routing.simulator.openai_format import Events, OpenAIErrors
from routing.simulator.text import Wish, count_tokens, embedding
from routing.simulator.wire import Call

OWNER = "library"


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class JsonSchema(msgspec.Struct, frozen=True):
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: str = "text"
    json_schema: JsonSchema | None = None


class Request(msgspec.Struct, frozen=True):
    """What both kinds of completion carry."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    def options(self) -> Options:
        return Options(
            num_predict=self.limit,
            seed=self.seed,
            temperature=1.0 if self.temperature is None else self.temperature,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
        )


class ChatRequest(Request, frozen=True):
    messages: list[Message] | None = None
    max_completion_tokens: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    reasoning_effort: str | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Request, frozen=True):
    prompt: str | list[str] | None = None
    suffix: str | None = None


class EmbeddingRequest(msgspec.Struct, frozen=True):
    model: str = ""
    input: str | list[str] | None = None
    dimensions: int | None = None
    encoding_format: str | None = None


async def models(sim: Simulator, call: Call, body: bytes) -> None:
    listed = [_listed(model) for model in sim.catalogue.models]
    await report(sim, call, OpenAIErrors(), {"object": "list", "data": listed})


async def model(sim: Simulator, call: Call, body: bytes) -> None:
    found = sim.find(call.path.removeprefix("/v1/models/"))
    await report(sim, call, OpenAIErrors(), _listed(found))


def _listed(model: Model) -> dict[str, Any]:
    return {"id": model.full_name, "object": "model", "created": 1767225600, "owned_by": OWNER}


async def chat_completions(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, ChatRequest)
    if not request.messages:
        raise Refused(400, "[] is too short - 'messages'")
    model = sim.find(request.model)
    require(model, "completion", f'"{request.model}" does not support chat')
    if request.tools:
        name = f"registry.ollama.ai/library/{model.full_name}"
        require(model, "tools", f"{name} does not support tools")
    prompt, prefill = conversation(request.messages)
    wish = wish_for(
        model,
        request.options(),
        prompt,
        prefill=prefill,
        schema=_schema(request.response_format),
        think="thinking" in model.capabilities and request.reasoning_effort != "none",
        tools=_tools(request),
    )
    await _generate(sim, call, request, wish, model, chat=True)


async def completions(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, CompletionRequest)
    model = sim.find(request.model)
    require(model, "completion", f'"{request.model}" does not support generate')
    given = request.prompt or ""
    text = given if isinstance(given, str) else "".join(given)
    prompt = text + (request.suffix or "")
    wish = wish_for(model, request.options(), prompt)
    await _generate(sim, call, request, wish, model, chat=False)


async def _generate(
    sim: Simulator, call: Call, request: Request, wish: Wish, model: Model, *, chat: bool
) -> None:
    asked = request.stream_options
    form = Events(request.model, chat=chat, usage=asked is not None and asked.include_usage)
    num_ctx = context_of(sim, model, Options())
    tokens = min(count_tokens(wish.prompt + wish.prefill), num_ctx)
    job = Job(model=model, num_ctx=num_ctx, prompt_tokens=tokens)
    await Generation(sim, call, job, form, wish=wish, stream=bool(request.stream)).run()


async def embeddings(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, EmbeddingRequest)
    if request.input is None or request.input == []:
        raise Refused(400, "invalid input")
    if request.encoding_format not in (None, "float", "base64"):
        raise Refused(
            400,
            f"Invalid value for 'encoding_format' = {request.encoding_format}."
            " Supported values: ['float', 'base64'].",
        )
    model = sim.find(request.model)
    texts = [request.input] if isinstance(request.input, str) else request.input
    num_ctx = context_of(sim, model, Options())
    tokens = sum(min(count_tokens(text), num_ctx) for text in texts)
    size = min(request.dimensions or model.embedding_length, model.embedding_length)

    def answer(times: Times) -> dict[str, Any]:
        vectors = [embedding(model.name, text, size) for text in texts]
        packed = request.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": at, "embedding": _packed(v) if packed else v}
            for at, v in enumerate(vectors)
        ]
        counts = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": request.model, "usage": counts}

    job = Job(model=model, num_ctx=num_ctx, prompt_tokens=tokens)
    await Reply(sim, call, job, OpenAIErrors(), answer).run()


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _schema(wanted: ResponseFormat | None) -> Any:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_schema" and wanted.json_schema is not None:
        return wanted.json_schema.schema or True
    return True


def _tools(request: ChatRequest) -> tuple[dict[str, Any], ...]:
    """Return the tools to call: none where the caller forbids it or has just run one."""
    messages = request.messages or []
    if request.tool_choice == "none" or (messages and messages[-1].role == "tool"):
        return ()
    return tuple(request.tools or ())

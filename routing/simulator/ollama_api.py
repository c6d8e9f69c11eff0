"""Ollama's own protocol: /api/* as its documentation and its server have it."""

from typing import Any

import msgspec

from routing.simulator.asking import (
    Message,
    Options,
    context_of,
    conversation,
    decode,
    fit,
    seconds,
    wish_for,
)
from routing.simulator.course import Job, Refused, Reply, Simulator, Times, report
from routing.simulator.generation import Generation
from routing.simulator.host import Runner
from routing.simulator.models import Model
from routing.simulator.ollama_format import Lines, OllamaErrors, timestamp
from routing.simulator.text import count_tokens, embedding
from routing.simulator.wire import PLAIN, Call

VERSION = "0.0.0-simulated"
FOREVER_S = 100 * 365 * 86_400.0  # what /api/ps shows for a model that never expires


class Request(msgspec.Struct, frozen=True):
    """What every inference request carries."""

    model: str = ""
    keep_alive: float | str | None = None
    options: Options | None = None
    truncate: bool | None = None


class GenerateRequest(Request, frozen=True):
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    raw: bool | None = None
    stream: bool | None = None
    format: Any = None
    think: bool | str | None = None


class ChatRequest(Request, frozen=True):
    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None
    stream: bool | None = None
    format: Any = None
    think: bool | str | None = None


class EmbedRequest(Request, frozen=True):
    input: str | list[str] | None = None
    dimensions: int | None = None


class EmbeddingsRequest(Request, frozen=True):
    prompt: str | None = None


class ShowRequest(msgspec.Struct, frozen=True):
    model: str = ""
    name: str = ""


async def root(sim: Simulator, call: Call, body: bytes) -> None:
    await call.reply(200, b"Ollama is running", PLAIN)


async def version(sim: Simulator, call: Call, body: bytes) -> None:
    await report(sim, call, OllamaErrors(), {"version": VERSION})


async def tags(sim: Simulator, call: Call, body: bytes) -> None:
    models = [
        {**_names(model), "modified_at": sim.catalogue.modified_at(model)}
        for model in sim.catalogue.models
    ]
    await report(sim, call, OllamaErrors(), {"models": models})


async def ps(sim: Simulator, call: Call, body: bytes) -> None:
    models = [_running(sim, runner) for runner in sim.host.loaded()]
    await report(sim, call, OllamaErrors(), {"models": models})


def _names(model: Model) -> dict[str, Any]:
    return {
        "name": model.full_name,
        "model": model.full_name,
        "size": model.size_bytes,
        "digest": model.digest,
        "details": model.details(),
    }


def _running(sim: Simulator, runner: Runner) -> dict[str, Any]:
    return {
        **_names(runner.model),
        "size": runner.need_bytes,
        "size_vram": runner.need_bytes,
        "expires_at": timestamp(min(sim.host.expires_in_s(runner), FOREVER_S)),
        "context_length": runner.num_ctx,
    }


async def show(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, ShowRequest)
    model = sim.find(request.model or request.name)
    answer = {
        "license": "No licence: this model is simulated and has no weights.",
        "modelfile": f"# A simulated model\nFROM {model.full_name}\n",
        "parameters": 'stop                           "<|end|>"',
        "template": "{{ .Prompt }}",
        "details": model.details(),
        "model_info": model.info(),
        "capabilities": list(model.capabilities),
        "modified_at": sim.catalogue.modified_at(model),
    }
    await report(sim, call, OllamaErrors(), answer)


async def generate(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, GenerateRequest)
    model = sim.find(request.model)
    form = Lines(request.model, chat=False, context=not request.raw)
    if not request.prompt:
        await _load_or_unload(sim, call, request, form)
        return
    require(model, "completion", f'"{request.model}" does not support generate')
    if request.suffix:
        require(model, "insert", f'"{request.model}" does not support insert')
    options = request.options or Options()
    prompt = "\n".join(filter(None, (request.system, request.prompt, request.suffix)))
    wish = wish_for(
        model, options, prompt, schema=schema_of(request.format), think=thinks(model, request)
    )
    job = _job(sim, model, request, prompt)
    stream = request.stream is not False
    await Generation(sim, call, job, form, wish=wish, stream=stream).run()


async def chat(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, ChatRequest)
    model = sim.find(request.model)
    form = Lines(request.model, chat=True)
    if not request.messages:
        await _load_or_unload(sim, call, request, form)
        return
    require(model, "completion", f'"{request.model}" does not support chat')
    if request.tools:
        name = f"registry.ollama.ai/library/{model.full_name}"
        require(model, "tools", f"{name} does not support tools")
    prompt, prefill = conversation(request.messages)
    # A model that has been given a tool's result answers instead of calling it again.
    answered = request.messages[-1].role == "tool"
    wish = wish_for(
        model,
        request.options or Options(),
        prompt,
        prefill=prefill,
        schema=schema_of(request.format),
        think=thinks(model, request),
        tools=() if answered else tuple(request.tools or ()),
    )
    job = _job(sim, model, request, prompt + prefill)
    stream = request.stream is not False
    await Generation(sim, call, job, form, wish=wish, stream=stream).run()


async def embed(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, EmbedRequest)
    model = sim.find(request.model)
    given = request.input or []
    texts = [given] if isinstance(given, str) else given
    size = min(request.dimensions or model.embedding_length, model.embedding_length)
    job = _job(sim, model, request, *texts)

    def answer(times: Times) -> dict[str, Any]:
        return {
            "model": request.model,
            "embeddings": [embedding(model.name, text, size) for text in texts],
            "total_duration": times.total,
            "load_duration": times.load,
            "prompt_eval_count": job.prompt_tokens,
        }

    await Reply(sim, call, job, OllamaErrors(), answer).run()


async def embeddings(sim: Simulator, call: Call, body: bytes) -> None:
    request = decode(body, EmbeddingsRequest)
    model = sim.find(request.model)
    text = request.prompt or ""
    size = model.embedding_length if text else 0

    def answer(times: Times) -> dict[str, Any]:
        return {"embedding": embedding(model.name, text, size)}

    await Reply(sim, call, _job(sim, model, request, text), OllamaErrors(), answer).run()


async def _load_or_unload(
    sim: Simulator, call: Call, request: GenerateRequest | ChatRequest, form: Lines
) -> None:
    """Answer a request without a prompt: it loads the model, or unloads it at keep_alive 0."""
    model = sim.find(request.model)
    if seconds(request.keep_alive) == 0:
        sim.host.unload(model)
        answer = {**form.head(), "done": True, "done_reason": "unload"}
        await report(sim, call, form, answer)
        return

    def loaded(times: Times) -> dict[str, Any]:
        return {**form.head(), "done": True, "done_reason": "load"}

    await Reply(sim, call, _job(sim, model, request), form, loaded).run()


def _job(sim: Simulator, model: Model, request: Request, *texts: str) -> Job:
    num_ctx = context_of(sim, model, request.options or Options())
    truncate = request.truncate is not False
    return Job(
        model=model,
        num_ctx=num_ctx,
        keep_alive_s=seconds(request.keep_alive),
        prompt_tokens=sum(fit(count_tokens(text), num_ctx, truncate=truncate) for text in texts),
    )


def require(model: Model, capability: str, otherwise: str) -> None:
    if capability not in model.capabilities:
        raise Refused(400, otherwise)


def thinks(model: Model, request: GenerateRequest | ChatRequest) -> bool:
    """Tell whether to think: models that can do, unless told not to; others must not be asked."""
    if "thinking" in model.capabilities:
        return request.think is not False
    if request.think:
        raise Refused(400, f'"{request.model}" does not support thinking')
    return False


def schema_of(form: Any) -> Any:
    """Return None for prose, True for any JSON object, else the JSON schema asked for."""
    if form in (None, ""):
        return None
    if form == "json":
        return True
    if isinstance(form, dict):
        return form
    raise Refused(400, f'invalid format: {form!r}; expected "json" or a JSON schema')

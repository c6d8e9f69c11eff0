"""OpenAI's chat completions, whole and streamed, over the same engine and records."""

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from routing.engine.bounds import answer_limit
from routing.engine.callers import Caller
from routing.engine.catalog import TASK_TYPES, Commit
from routing.engine.decide import Decision
from routing.engine.errors import RoutingError
from routing.engine.need import Need
from routing.engine.policy import Candidate
from routing.engine.tokens import prompt_bound
from routing.lanes.contracts import MaxTokens, MaxWait, ProblemField, Tag, Temperature, encode
from routing.lanes.exchange import Bill, Exchange, estimate_tokens
from routing.lanes.execute import Job, Stream, complete, open_stream
from routing.lanes.problems import (
    TOO_LONG,
    BadRequest,
    Failure,
    bad_json,
    bad_request,
    failure_of,
    internal_error,
)
from routing.lanes.queued import Queued, comment, opened_soon
from routing.lanes.reply import Reply
from routing.lanes.runtime import Runtime
from routing.lanes.telling import Telling
from routing.lanes.turn import decide_in_time, longest_wait_s, queue_headers
from routing.providers.base import Answer, Call, Piece

# Parameters handed on as they are to upstreams that know them.
PASSED_ON = (
    "frequency_penalty", "logit_bias", "logprobs", "min_p", "parallel_tool_calls",
    "presence_penalty", "reasoning_effort", "response_format", "seed", "stop", "tool_choice",
    "tools", "top_k", "top_logprobs", "top_p", "user",
)  # fmt: skip
AUTO = "auto"
# What the hungriest models make of one image, with room to spare.
IMAGE_TOKENS = 40_000
Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class ImageUrl(msgspec.Struct, omit_defaults=True):
    url: str
    detail: str | None = None


class Part(msgspec.Struct, omit_defaults=True):
    """One part of a message; `text` and `image_url` go with the types of the same names."""

    type: str
    text: str | None = None
    image_url: ImageUrl | str | None = None


class CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class ToolCall(msgspec.Struct, omit_defaults=True):
    id: str = ""
    function: CalledFunction | None = None


class Message(msgspec.Struct, omit_defaults=True):
    """One message; `content` is text or OpenAI's list of parts."""

    role: Role
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class JsonSchema(msgspec.Struct, omit_defaults=True):
    name: str = ""
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct, omit_defaults=True):
    """How the answer is to be written: `text`, `json_object` or `json_schema`."""

    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Metadata(msgspec.Struct):
    """OpenAI's free key-value pairs; of ours is `tag`, the rest is ignored."""

    tag: Tag | None = None


class ChatRequest(msgspec.Struct):
    """What OpenAI's clients send. Parameters that are not named here are handed on or ignored."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    commit: Commit | None = None
    n: Annotated[int, Meta(ge=1, le=1, description="One choice only.")] | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: ResponseFormat | None = None
    max_wait_ms: MaxWait | None = None
    metadata: Metadata | None = None


class AnswerMessage(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct):
    index: int
    message: AnswerMessage
    finish_reason: str
    logprobs: None = None


class TokenUsage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(msgspec.Struct):
    """A whole answer, by the model named in `model`."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage


class ErrorDetail(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """OpenAI's error shape."""

    error: ErrorDetail


@dataclass(slots=True)
class Ask:
    """A decoded chat request and what it means here."""

    request: ChatRequest
    messages: list[dict[str, Any]]
    params: dict[str, Any]
    size: int  # bytes of the whole request

    @property
    def max_tokens(self) -> int | None:
        return self.request.max_completion_tokens or self.request.max_tokens

    @property
    def tag(self) -> str:
        metadata = self.request.metadata
        return (metadata.tag or "") if metadata else ""

    @property
    def wants_usage(self) -> bool:
        options = self.request.stream_options
        return options is not None and options.include_usage


async def chat_completions(runtime: Runtime, body: bytes, caller: Caller) -> Reply:
    """Answer a chat, streamed or whole."""
    runtime.admit()
    ask = _decode(body)
    need = _need(ask, caller)
    exchange = Exchange(runtime, "chat", need)
    exchange.stream = bool(ask.request.stream)
    try:
        decision = await decide_in_time(runtime, exchange, ask.request.max_wait_ms)
        job = _job(runtime, exchange, decision, ask)
        if not ask.request.stream:
            answer = await complete(runtime, job)
            return _whole(exchange, answer)
        opening = asyncio.create_task(open_stream(runtime, job))
        if not await opened_soon(opening, exchange):
            return _queued(exchange, opening, ask)
        stream = opening.result()
    except RoutingError as exc:
        failure = _in_its_statuses(failure_of(exc))
        exchange.fail(failure)
        return error_reply(failure, exchange.request_id)
    except asyncio.CancelledError:
        exchange.caller_left()
        raise
    except Exception:
        exchange.fail(internal_error())
        raise
    return _Chunks(exchange, stream, wants_usage=ask.wants_usage).reply(_headers(exchange))


def _queued(exchange: Exchange, opening: asyncio.Task[Stream], ask: Ask) -> Reply:
    waiting = Queued(
        exchange,
        opening,
        note=comment,
        tell=lambda stream: _Chunks(exchange, stream, wants_usage=ask.wants_usage),
        breaking=lambda failure: _sse(error_body(failure)),
    )
    return waiting.reply(_headers(exchange))


def _decode(body: bytes) -> Ask:
    try:
        raw = msgspec.json.decode(body)
        request = msgspec.convert(raw, ChatRequest)
    except msgspec.ValidationError as exc:
        raise bad_request(exc, ChatRequest) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise bad_json(exc) from exc
    except RecursionError as exc:
        raise bad_json(ValueError("it is nested too deeply")) from exc
    params = {name: raw[name] for name in PASSED_ON if raw.get(name) is not None}
    return Ask(request, raw["messages"], params, len(body))


def _need(ask: Ask, caller: Caller) -> Need:
    """Return the need: `auto` and `auto:<task>` select, anything else is a model's name."""
    task, model = "completion", None
    name = ask.request.model
    if name.startswith(f"{AUTO}:"):
        task = name.removeprefix(f"{AUTO}:")
        if task not in TASK_TYPES or task == "embedding":
            chat = ", ".join(f"auto:{t}" for t in TASK_TYPES if t != "embedding")
            field = ProblemField("/model", f"Unknown task '{task}'.", f"Use one of: {chat}.")
            raise BadRequest(f"/model: {field.detail} {field.remedy}", fields=(field,))
    elif name != AUTO:
        model = name
    tokens = sum(_message_tokens(m.content) for m in ask.request.messages)
    return Need(
        task=task,
        prompt_tokens=tokens,
        prompt_bound=_most_tokens(ask),
        prompt_bytes=ask.size,
        max_tokens=ask.max_tokens,
        model=model,
        tenant=caller.tenant,
        key=caller.key,
        tag=ask.tag,
        allowed=caller.allowed,
        share=caller.share,
    )


def _most_tokens(ask: Ask) -> int:
    """Return the most tokens that what is sent can be: as JSON no text is shorter than in UTF-8."""
    bound = prompt_bound(
        ask.size,
        messages=len(ask.messages),
        tool_bytes=len(encode(ask.params["tools"])) if "tools" in ask.params else 0,
    )
    parts = [p for m in ask.request.messages if isinstance(m.content, list) for p in m.content]
    images = sum(part.image_url is not None for part in parts)
    # An image by its address is as short as you like, and as long as its model makes it.
    return bound + images * IMAGE_TOKENS


def _message_tokens(content: str | list[Part] | None) -> int:
    """Estimate one message; a template adds about four tokens around each."""
    if isinstance(content, str):
        return estimate_tokens(content) + 4
    return 4 + sum(estimate_tokens(part.text) for part in content or () if part.text)


def _job(runtime: Runtime, exchange: Exchange, decision: Decision, ask: Ask) -> Job:
    profile = runtime.policy.profiles[exchange.need.priority]
    deadline_ms = profile.deadline_ms

    def call_for(candidate: Candidate) -> Call:
        return Call(
            model=candidate.upstream_model,
            messages=ask.messages,
            max_tokens=answer_limit(candidate, exchange.need),
            temperature=ask.request.temperature,
            params=ask.params,
            num_ctx=candidate.offering.num_ctx,
            keep_alive=candidate.offering.keep_alive,
        )

    return Job(
        decision=decision,
        call_for=call_for,
        deadline=runtime.clock() + deadline_ms / 1000,
        deadline_ms=deadline_ms,
        commit=ask.request.commit or profile.commit,
        trail=exchange.trail,
        insure=exchange.insure,
        longest_wait_s=longest_wait_s(runtime, exchange.need.priority, ask.request.max_wait_ms),
    )


def _whole(exchange: Exchange, answer: Answer) -> Reply:
    bill = exchange.bill(answer.usage, len(answer.text))
    exchange.succeed(bill)
    message = AnswerMessage("assistant", answer.text, answer.tool_calls)
    if answer.tool_calls and not answer.text:
        message.content = None
    completion = ChatCompletion(
        id=f"chatcmpl-{exchange.request_id}",
        object="chat.completion",
        created=int(time.time()),
        model=_answering_model(exchange),
        choices=[Choice(0, message, answer.finish_reason)],
        usage=_usage(bill),
    )
    return Reply(200, encode(completion), headers=_headers(exchange))


class _Chunks(Telling):
    """OpenAI's chunks: each has a head in common, and a choice or the usage."""

    def __init__(self, exchange: Exchange, stream: Stream, *, wants_usage: bool) -> None:
        super().__init__(exchange, stream)
        self._wants_usage = wants_usage
        self._head = {
            "id": f"chatcmpl-{exchange.request_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": _answering_model(exchange),
        }

    def opening(self) -> bytes:
        return self._event({"role": "assistant", "content": ""})

    def switched(self) -> bytes:
        self._head["model"] = _answering_model(self.exchange)
        return b""

    def piece(self, piece: Piece) -> bytes:
        delta: dict[str, Any] = {}
        if piece.text:
            delta["content"] = piece.text
        if piece.tool_calls:
            delta["tool_calls"] = piece.tool_calls
        if not delta and not piece.finish_reason:
            return b""
        return self._event(delta, piece.finish_reason)

    def ending(self, bill: Bill) -> bytes:
        self.exchange.succeed(bill)
        usage = b""
        if self._wants_usage:
            usage = _sse({**self._head, "choices": [], "usage": _usage(bill)})
        # A comment, which every client ignores and a curious one reads.
        notice = b": cut off at max_tokens\n\n" if self.exchange.trail.cut else b""
        return usage + notice + b"data: [DONE]\n\n"

    def breaking(self, failure: Failure) -> bytes:
        """Say plainly that the answer is not whole: an error event, and no end marker."""
        return _sse(error_body(failure))

    def _event(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _sse({**self._head, "choices": [choice]})


def _sse(data: Any) -> bytes:
    return b"data: " + encode(data) + b"\n\n"


def _usage(bill: Bill) -> TokenUsage:
    total = bill.prompt_tokens + bill.completion_tokens
    return TokenUsage(bill.prompt_tokens, bill.completion_tokens, total)


def _answering_model(exchange: Exchange) -> str:
    answered = exchange.answered_by
    return answered.model_name if answered else ""


def _headers(exchange: Exchange) -> dict[str, str]:
    answered = exchange.answered_by
    return {
        "x-request-id": exchange.request_id,
        "x-orchestra-endpoint": answered.endpoint_name if answered else "",
        "x-orchestra-fallback": "true" if exchange.fallback_used else "false",
        "x-orchestra-simulated": "true" if exchange.simulated else "false",
        **queue_headers(exchange.trail),
    }


def _in_its_statuses(failure: Failure) -> Failure:
    """Return the failure with the status that OpenAI's clients know it by."""
    if failure.code == TOO_LONG:
        return replace(failure, status=400)
    return failure


_TYPES = {400: "invalid_request_error", 402: "insufficient_quota", 404: "invalid_request_error"}


def error_body(failure: Failure) -> ErrorBody:
    """Return `failure` in OpenAI's shape."""
    kind = _TYPES.get(failure.status)
    if kind is None:
        kind = "invalid_request_error" if failure.status < 500 else "server_error"
    if failure.limit is not None:
        # OpenAI names what is used up here; permits for streams it does not know.
        kind = "tokens" if failure.limit.unit == "tokens" else "requests"
    param = failure.fields[0].pointer.strip("/").replace("/", ".") if failure.fields else None
    return ErrorBody(ErrorDetail(failure.detail, kind, param or None, failure.code))


def error_reply(failure: Failure, request_id: str | None) -> Reply:
    headers = dict(failure.headers)
    if request_id:
        headers["x-request-id"] = request_id
    return Reply(failure.status, encode(error_body(failure)), headers=headers)

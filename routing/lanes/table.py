"""The lanes' endpoints, declared once.

From this table come the ASGI lane's dispatch, the DRF views at the same paths, the OpenAPI schema,
and the tests that hold both doors to the same answers.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from routing.engine.callers import ANONYMOUS, Caller
from routing.engine.errors import RoutingError
from routing.lanes import native, native_stream, openai_chat, openai_models
from routing.lanes.contracts import (
    Problem,
    RouteRequest,
    RouteResponse,
    SelectRequest,
    SelectResponse,
)
from routing.lanes.idempotency import Unavailable
from routing.lanes.problems import Failure, failure_of
from routing.lanes.rate_headers import openai_headers, rate_headers
from routing.lanes.reply import Reply
from routing.lanes.runtime import Runtime
from routing.lanes.tolls import Passage

Handler = Callable[[Runtime, bytes, Caller], Awaitable[Reply]]
ErrorShape = Callable[[Failure, str | None], Reply]
LimitHeaders = Callable[[Passage, float], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One endpoint: where it is, what it takes and gives, and who answers."""

    method: str
    path: str
    name: str
    summary: str
    tag: str
    handler: Handler
    request: Any = None  # a msgspec type; None where there is no body
    response: Any = None
    error: Any = Problem
    error_shape: ErrorShape = Reply.problem
    errors: tuple[int, ...] = (400, 401, 413, 415, 500, 502, 503, 504)
    streams: bool = False
    events: tuple[str, ...] = ()  # the names of a stream's events, where they have any
    keyed: bool = False  # honours Idempotency-Key
    limit_headers: LimitHeaders = rate_headers

    async def answer(
        self, runtime: Runtime, body: bytes, key: bytes = b"", caller: Caller = ANONYMOUS
    ) -> Reply:
        """Return the reply to one request; with an Idempotency-Key, the same to its caller's same.

        A caller with limits is told of them, whatever the answer. Raises RoutingError.
        """
        answering: Awaitable[Reply]
        if key and self.keyed:
            answering = self._once(runtime, body, key, caller)
        else:
            answering = self.handler(runtime, body, caller)
        passage = runtime.tolls.passage(caller.tenant, caller.key)
        if passage is None:
            return await answering
        try:
            reply = await answering
        except RoutingError as exc:
            reply = self.error_shape(failure_of(exc), None)
        reply.limits = self.limit_headers(passage, runtime.clock())
        if "ratelimit-limit" in reply.headers:
            # A refusal tells of the limit it met.
            reply.headers, reply.limits = reply.all_headers, b""
        return reply

    async def _once(self, runtime: Runtime, body: bytes, key: bytes, caller: Caller) -> Reply:
        if runtime.idempotency is None:
            raise Unavailable("This process keeps no answers; leave the Idempotency-Key out.")
        return await runtime.idempotency.once(
            self.path,
            key,
            body,
            lambda: self.handler(runtime, body, caller),
            scope=caller.scope,
        )


LANES: tuple[Lane, ...] = (
    Lane(
        method="POST",
        path="/api/v1/ai/select-model",
        name="select-model",
        summary="Select the optimal model for a task, without calling it",
        tag="orchestration",
        handler=native.select_model,
        request=SelectRequest,
        response=SelectResponse,
        errors=(400, 401, 402, 403, 413, 415, 422, 429, 500, 503),
    ),
    Lane(
        method="POST",
        path="/api/v1/ai/route-request",
        name="route-request",
        summary="Route a prompt to the best model and return its answer",
        tag="orchestration",
        handler=native.route_request,
        request=RouteRequest,
        response=RouteResponse,
        errors=(400, 401, 402, 403, 409, 413, 415, 422, 429, 500, 502, 503, 504),
        keyed=True,
        streams=True,
        events=native_stream.EVENTS,
    ),
    Lane(
        method="POST",
        path="/v1/chat/completions",
        name="chat-completions",
        summary="Chat in OpenAI's protocol; model 'auto' or 'auto:<task>' selects",
        tag="openai",
        handler=openai_chat.chat_completions,
        request=openai_chat.ChatRequest,
        response=openai_chat.ChatCompletion,
        error=openai_chat.ErrorBody,
        error_shape=openai_chat.error_reply,
        limit_headers=openai_headers,
        errors=(400, 401, 402, 403, 404, 409, 413, 415, 422, 429, 500, 502, 503, 504),
        streams=True,
        keyed=True,
    ),
    Lane(
        method="GET",
        path="/v1/models",
        name="models",
        summary="List the models that can be asked for, in OpenAI's protocol",
        tag="openai",
        handler=openai_models.list_models,
        response=openai_models.ModelList,
        error=openai_chat.ErrorBody,
        error_shape=openai_chat.error_reply,
        limit_headers=openai_headers,
        errors=(401, 503),
    ),
)
BY_ROUTE: dict[tuple[str, str], Lane] = {(lane.method, lane.path): lane for lane in LANES}

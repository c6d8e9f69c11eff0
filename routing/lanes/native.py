"""The native endpoints: select-model and route-request."""

import asyncio
import math

import msgspec

from routing.engine.bounds import answer_limit
from routing.engine.callers import Caller
from routing.engine.catalog import Priority
from routing.engine.decide import Decision, alternatives, explain
from routing.engine.errors import RoutingError
from routing.engine.need import Need
from routing.engine.policy import Candidate
from routing.engine.tokens import prompt_bound
from routing.lanes.contracts import (
    Consideration,
    ModelInfo,
    ProblemField,
    RouteMetrics,
    RouteRequest,
    RouteRequirements,
    RouteResponse,
    Scores,
    SelectRequest,
    SelectRequirements,
    SelectResponse,
    SystemMetrics,
    decode_route,
    decode_select,
    encode,
)
from routing.lanes.exchange import Bill, Exchange
from routing.lanes.execute import Job, complete, open_stream
from routing.lanes.native_stream import RouteEvents, broken, queued
from routing.lanes.problems import BadRequest, bad_json, bad_request, failure_of, internal_error
from routing.lanes.queued import Queued, opened_soon
from routing.lanes.reply import Reply
from routing.lanes.runtime import Runtime
from routing.lanes.till import utf8_bytes
from routing.lanes.turn import decide_in_time, longest_wait_s, queue_headers
from routing.providers.base import Answer, Call
from telemetry.record import RequestRecord

_NO_SELECT = SelectRequirements()
_NO_ROUTE = RouteRequirements()
_NORMAL: Priority = "normal"


async def select_model(runtime: Runtime, body: bytes, caller: Caller) -> Reply:
    """Answer which model would take the request, without calling it."""
    runtime.admit()
    try:
        request = decode_select(body)
    except msgspec.ValidationError as exc:
        raise bad_request(exc, SelectRequest) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise bad_json(exc) from exc
    need = _need(runtime, caller, request, request.requirements or _NO_SELECT)
    exchange = Exchange(runtime, "select", need)
    try:
        decision = await decide_in_time(runtime, exchange, None)
    except RoutingError as exc:
        return _failed(exchange, exc)
    except Exception:
        exchange.fail(internal_error())
        raise
    record = exchange.succeed()
    response = _selection(runtime, exchange, decision, record, explained=request.explain)
    return Reply(200, encode(response))


async def route_request(runtime: Runtime, body: bytes, caller: Caller) -> Reply:
    """Choose a model, call it with the prompt, fail over where needed, and answer."""
    runtime.admit()
    try:
        request = decode_route(body)
    except msgspec.ValidationError as exc:
        raise bad_request(exc, RouteRequest) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise bad_json(exc) from exc
    wanted = request.requirements or _NO_ROUTE
    need = _need(runtime, caller, request, wanted, request.prompt)
    embed = request.taskType == "embedding"
    if embed and request.stream:
        raise _no_stream()
    exchange = Exchange(runtime, "embed" if embed else "route", need)
    exchange.stream = request.stream
    try:
        decision = await decide_in_time(runtime, exchange, wanted.maxWaitMs)
        job = _job(runtime, exchange, decision, request)
        if request.stream:
            return await _streamed(runtime, exchange, job, explained=request.explain)
        answer = await complete(runtime, job, embed=embed)
        bill = exchange.bill(answer.usage, len(answer.text))
        response = _routed(runtime, exchange, answer, bill, explained=request.explain)
        return Reply(200, encode(response), headers=queue_headers(exchange.trail))
    except RoutingError as exc:
        return _failed(exchange, exc)
    except asyncio.CancelledError:
        exchange.caller_left()
        raise
    except Exception:
        exchange.fail(internal_error())
        raise


async def _streamed(runtime: Runtime, exchange: Exchange, job: Job, *, explained: bool) -> Reply:
    def respond(answer: Answer, bill: Bill) -> RouteResponse:
        return _routed(runtime, exchange, answer, bill, explained=explained)

    headers = {"x-request-id": exchange.request_id}
    opening = asyncio.create_task(open_stream(runtime, job))
    soon = await opened_soon(opening, exchange)
    headers |= queue_headers(exchange.trail)
    if not soon:
        waiting = Queued(
            exchange,
            opening,
            note=queued,
            tell=lambda stream: RouteEvents(exchange, stream, respond),
            breaking=lambda failure: broken(failure, exchange.request_id),
        )
        return waiting.reply(headers)
    return RouteEvents(exchange, opening.result(), respond).reply(headers)


def _no_stream() -> BadRequest:
    one = ProblemField("/stream", "An embedding is not streamed.", "Leave 'stream' out.")
    return BadRequest(f"{one.pointer}: {one.detail} {one.remedy}", fields=(one,))


def _need(
    runtime: Runtime,
    caller: Caller,
    request: SelectRequest | RouteRequest,
    wanted: SelectRequirements | RouteRequirements,
    prompt: str = "",
) -> Need:
    priority = wanted.priority or _NORMAL
    limit = wanted.costLimit
    size = utf8_bytes(prompt)
    return Need(
        task=request.taskType,
        priority=priority,
        floor=runtime.policy.floor(priority, wanted.complexity, wanted.qualityRequirement),
        prompt_tokens=size // 4 + 1 if prompt else 0,
        prompt_bound=prompt_bound(size) if prompt else 0,
        prompt_bytes=size,
        max_tokens=wanted.maxTokens,
        # Rounded down: a bound above the limit by a fraction of a nano-dollar is above it.
        cost_limit_nusd=None if limit is None else math.floor(limit * 1e9),
        tenant=caller.tenant,
        key=caller.key,
        tag=request.tag or "",
        allowed=caller.allowed,
        share=caller.share,
    )


def _job(runtime: Runtime, exchange: Exchange, decision: Decision, request: RouteRequest) -> Job:
    wanted = request.requirements or _NO_ROUTE
    embed = request.taskType == "embedding"
    profile = runtime.policy.profiles[exchange.need.priority]
    deadline_ms = profile.deadline_ms

    def call_for(candidate: Candidate) -> Call:
        return Call(
            model=candidate.upstream_model,
            prompt=request.prompt,
            inputs=[request.prompt] if embed else None,
            max_tokens=answer_limit(candidate, exchange.need),
            temperature=wanted.temperature,
            num_ctx=candidate.offering.num_ctx,
            keep_alive=candidate.offering.keep_alive,
        )

    return Job(
        decision=decision,
        call_for=call_for,
        deadline=runtime.clock() + deadline_ms / 1000,
        deadline_ms=deadline_ms,
        most_attempts=None if request.retryAttempts is None else 1 + request.retryAttempts,
        commit=request.commit or profile.commit,
        trail=exchange.trail,
        insure=exchange.insure,
        longest_wait_s=longest_wait_s(runtime, exchange.need.priority, wanted.maxWaitMs),
    )


def _selection(
    runtime: Runtime,
    exchange: Exchange,
    decision: Decision,
    record: RequestRecord,
    *,
    explained: bool,
) -> SelectResponse:
    model, host = decision.chosen.model, runtime.local
    return SelectResponse(
        requestId=exchange.request_id,
        selectedModel=record.selected_model,
        taskType=record.task_type,
        fallbackUsed=record.fallback_used,
        alternatives=alternatives(runtime.policy, decision),
        systemMetrics=SystemMetrics(
            round(host.pressure, 4), round(host.available_gb, 3), round(host.cpu_percent, 1)
        ),
        modelInfo=ModelInfo(model.capabilities, model.speed, model.quality_tier),
        endpoint=record.endpoint,
        reason=record.reason,
        degraded=record.degraded,
        simulated=record.simulated,
        explanation=considerations(runtime, exchange.need) if explained else None,
    )


def _routed(
    runtime: Runtime, exchange: Exchange, answer: Answer, bill: Bill, *, explained: bool
) -> RouteResponse:
    vector = answer.vectors[0] if answer.vectors else None
    record = exchange.succeed(bill)
    return RouteResponse(
        requestId=exchange.request_id,
        selectedModel=record.selected_model,
        response=answer.text if vector is None else encode(vector).decode(),
        fallbackUsed=record.fallback_used,
        metrics=RouteMetrics(
            responseTimeMs=record.response_time_ms,
            memoryPressure=round(runtime.local.pressure, 4),
            modelUsed=record.selected_model,
            tokensGenerated=bill.completion_tokens,
            promptTokens=bill.prompt_tokens,
            queuedMs=exchange.trail.queued_ms if exchange.trail.queue_position else None,
        ),
        endpoint=record.endpoint,
        reason=record.reason,
        finishReason=answer.finish_reason,
        degraded=record.degraded,
        simulated=record.simulated,
        costUsd=bill.cost_usd,
        embedding=vector,
        explanation=considerations(runtime, exchange.need) if explained else None,
    )


def considerations(runtime: Runtime, need: Need) -> list[Consideration]:
    """Return every offering with its scores or its rejection, best first."""
    rows = []
    for row in explain(runtime.policy, runtime.state, need, runtime.clock()):
        candidate, t = row.candidate, row.terms
        one = Consideration(model=candidate.model_name, endpoint=candidate.endpoint_name)
        if t is not None:
            parts = (t.total, t.quality, t.cost, t.latency, t.memory, t.success)
            total, quality, cost, latency, memory, success = (round(part, 4) for part in parts)
            one.scores = Scores(
                total, quality, cost, latency, memory, success,
                round(t.expected_ms, 1), round(t.wait_ms, 1),
            )  # fmt: skip
        if row.rejection is not None:
            one.rejected, one.detail = row.rejection.reason, row.rejection.detail
        rows.append(one)
    return rows


def _failed(exchange: Exchange, exc: RoutingError) -> Reply:
    """Record the failure and return it as a problem document."""
    failure = failure_of(exc)
    exchange.fail(failure)
    return Reply.problem(failure, exchange.request_id)

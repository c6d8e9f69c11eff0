"""Streamed answers of route-request: start, delta, switch, done or error."""

from collections.abc import Callable
from typing import Any

import msgspec

from routing.lanes.contracts import RouteResponse, encode
from routing.lanes.exchange import Bill, Exchange
from routing.lanes.execute import Stream
from routing.lanes.problems import Failure
from routing.lanes.queued import comment
from routing.lanes.telling import Telling
from routing.providers.base import Answer, Piece

EVENTS = ("start", "delta", "switch", "done", "error")

Respond = Callable[[Answer, Bill], RouteResponse]


class StreamStart(msgspec.Struct):
    """Who has begun to answer, or goes on with it (`start` and `switch` events)."""

    requestId: str
    selectedModel: str
    endpoint: str
    fallbackUsed: bool
    degraded: bool
    simulated: bool
    reason: str


class StreamDelta(msgspec.Struct):
    """The next part of the answer (`delta` events)."""

    text: str


class StreamQueued(msgspec.Struct):
    """Where the request stands while it waits for a place (`queued` events)."""

    position: int
    expectedWaitMs: int


class RouteEvents(Telling):
    """The events of one answer; `done` holds what the answer would have been unstreamed."""

    def __init__(self, exchange: Exchange, stream: Stream, respond: Respond) -> None:
        super().__init__(exchange, stream)
        self._respond = respond
        self._texts: list[str] = []
        self._finish = "stop"

    def opening(self) -> bytes:
        return _event(b"start", self._who())

    def switched(self) -> bytes:
        return _event(b"switch", self._who())

    def piece(self, piece: Piece) -> bytes:
        self._finish = piece.finish_reason or self._finish
        if not piece.text:
            return b""
        self._texts.append(piece.text)
        return _event(b"delta", StreamDelta(piece.text))

    def ending(self, bill: Bill) -> bytes:
        answer = Answer(text="".join(self._texts), finish_reason=self._finish)
        return _event(b"done", self._respond(answer, bill))

    def breaking(self, failure: Failure) -> bytes:
        return broken(failure, self.exchange.request_id)

    def _who(self) -> StreamStart:
        exchange, candidate = self.exchange, self.stream.candidate
        return StreamStart(
            requestId=exchange.request_id,
            selectedModel=candidate.model_name,
            endpoint=candidate.endpoint_name,
            fallbackUsed=exchange.fallback_used,
            degraded=exchange.degraded,
            simulated=exchange.simulated,
            reason=exchange.reason,
        )


def queued(position: int, expected_ms: int) -> bytes:
    """Return the news that the request waits for a place."""
    return comment(position, expected_ms) + _event(b"queued", StreamQueued(position, expected_ms))


def broken(failure: Failure, request_id: str) -> bytes:
    return _event(b"error", failure.problem(request_id))


def _event(name: bytes, data: Any) -> bytes:
    return b"event: " + name + b"\ndata: " + encode(data) + b"\n\n"

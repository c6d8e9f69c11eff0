"""A caller tells whole and right answers from all others: the instrument itself is tried."""

import json
from typing import Any

import pytest

from routing.simulator.asking import Options, wish_for
from routing.simulator.text import compose
from tests.chaos.asking import Callers, Verdict
from tests.chaos.client import Exchange
from tests.chaos.stage import MODELS

PROMPT = "What is the matter?"
RIGHT = compose(wish_for(MODELS["alpha:1b"], Options(temperature=0), PROMPT)).text


def judged(way: str, exchange: Exchange) -> Verdict:
    return Callers("http://127.0.0.1:9", MODELS, 1.0, 1)._judge(way, PROMPT, exchange)


def routed(text: str, **more: Any) -> Exchange:
    body = {"requestId": "1", "selectedModel": "alpha:1b", "response": text}
    given: dict[str, Any] = {"status": 200, "whole": True, **more}
    return Exchange(body=bytearray(json.dumps(body).encode()), **given)


def streamed(text: str, *, end: str | None = "stop", last: str = "[DONE]") -> Exchange:
    chunks: list[dict[str, Any]] = [{"delta": {"content": text}, "finish_reason": None}]
    chunks += [{"delta": {}, "finish_reason": end}] if end else []
    events = [json.dumps({"model": "alpha:1b", "choices": [chunk]}) for chunk in chunks]
    events += [last] if last else []
    body = "".join(f"data: {event}\n\n" for event in events).encode()
    headers = {"x-request-id": "1"}
    return Exchange(status=200, whole=True, headers=headers, body=bytearray(body))


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (routed(RIGHT), Verdict.COMPLETE),
        (routed(RIGHT[:-4]), Verdict.TRUNCATED),
        (routed(""), Verdict.TRUNCATED),
        (routed(RIGHT + RIGHT), Verdict.CORRUPT),
        (routed("Something else."), Verdict.CORRUPT),
        (routed(RIGHT, timed_out=True), Verdict.HUNG),
        (routed(RIGHT, status=503), Verdict.REFUSED),
        (routed(RIGHT, whole=False), Verdict.REFUSED),
        (Exchange(), Verdict.REFUSED),
    ],
)
def test_a_whole_answer_is_compared_with_the_right_one(
    exchange: Exchange, verdict: Verdict
) -> None:
    assert judged("route", exchange) is verdict


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (streamed(RIGHT), Verdict.COMPLETE),
        (streamed(RIGHT, last=""), Verdict.TRUNCATED),
        (streamed(RIGHT, end=None), Verdict.TRUNCATED),
        (streamed(RIGHT[:9]), Verdict.TRUNCATED),
        (streamed(RIGHT[:9] + RIGHT), Verdict.CORRUPT),
        (streamed(RIGHT[:9], end=None, last='{"error": {"code": "cut"}}'), Verdict.REFUSED),
    ],
)
def test_a_stream_is_whole_only_with_its_end(exchange: Exchange, verdict: Verdict) -> None:
    assert judged("chat stream", exchange) is verdict


def told(*events: dict[str, Any]) -> Exchange:
    body = "".join(f"event: any\ndata: {json.dumps(event)}\n\n" for event in events)
    return Exchange(status=200, whole=True, body=bytearray(body.encode()))


START = {"requestId": "1", "selectedModel": "alpha:1b"}
HALF, REST = {"text": RIGHT[:9]}, {"text": RIGHT[9:]}
DONE = START | {"response": RIGHT}


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (told(START, HALF, REST, DONE), Verdict.COMPLETE),
        (told(START, HALF, REST), Verdict.TRUNCATED),
        (told(START, HALF, DONE), Verdict.CORRUPT),
        (told(START, HALF, HALF, REST, DONE), Verdict.CORRUPT),
        (told(START, HALF, {"code": "upstream_stream_cut", "requestId": "1"}), Verdict.REFUSED),
    ],
)
def test_events_of_route_request_have_to_agree_with_the_whole(
    exchange: Exchange, verdict: Verdict
) -> None:
    assert judged("route stream", exchange) is verdict


def test_the_text_of_a_model_that_is_not_there_is_corrupt() -> None:
    exchange = routed(RIGHT)
    exchange.body = exchange.body.replace(b"alpha:1b", b"gamma:1b")
    assert judged("route", exchange) is Verdict.CORRUPT

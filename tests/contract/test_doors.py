"""Two doors, one answer: the lane's and DRF's, at the same paths of the running service."""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from routing.lanes.door import MAX_BODY_BYTES
from tests.lanes.stage import CHAT, MODELS, ROUTE, SELECT
from tests.service import LiveService

# Naming HTML at all leads to DRF, which prefers the JSON that is asked for first.
LANE = {"accept": "application/json"}
DRF = {"accept": "application/json, text/html;q=0.1"}
JSON = {"content-type": "application/json"}
CODE = {"taskType": "completion"}
HELLO = [{"role": "user", "content": "Hello"}]
# The seeded model that is quickest to answer.
SMALL = {"model": "qwen2.5:0.5b", "messages": HELLO, "max_tokens": 2}
ROUTED = {**CODE, "prompt": "Hello", "requirements": {"maxTokens": 9}}
LARGE = b'{"taskType": "' + b"x" * MAX_BODY_BYTES + b'"}'


@pytest.fixture(scope="module")
def client(live_service: LiveService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live_service.url, timeout=30) as made:
        yield made


def shape(value: Any) -> Any:
    """Return what a value is made of: names and types, not ids and times."""
    if isinstance(value, dict):
        return {name: shape(below) for name, below in value.items()}
    if isinstance(value, list):
        return [shape(below) for below in value[:1]]
    return type(value).__name__


ANSWERS: list[tuple[str, str, Any]] = [
    ("POST", SELECT, CODE),
    ("POST", SELECT, {**CODE, "explain": True}),
    ("POST", ROUTE, {**CODE, "prompt": "Hello", "requirements": {"maxTokens": 1}}),
    ("POST", ROUTE, {"taskType": "embedding", "prompt": "Hello"}),
    ("POST", CHAT, SMALL),
    ("GET", MODELS, None),
]


@pytest.mark.parametrize(("method", "path", "body"), ANSWERS)
def test_answers_are_alike(client: httpx.Client, method: str, path: str, body: Any) -> None:
    lane, drf = (client.request(method, path, json=body, headers=door) for door in (LANE, DRF))
    assert (lane.status_code, drf.status_code) == (200, 200)
    assert lane.headers["content-type"] == drf.headers["content-type"] == "application/json"
    assert shape(_unqueued(lane)) == shape(_unqueued(drf))
    assert drf.headers["vary"]


def _unqueued(answer: httpx.Response) -> Any:
    """Return the answer without what it tells of waiting, which either of the two may have done."""
    said = answer.json()
    waited_ms = said.get("metrics", {}).pop("queuedMs", None)
    headed = answer.headers.get("x-orchestra-queued-ms")
    if answer.request.url.path == ROUTE:
        assert headed == (None if waited_ms is None else str(waited_ms))
    return said


REFUSALS: list[tuple[str, dict[str, Any], int]] = [
    (SELECT, {"json": {}}, 400),
    (SELECT, {"json": {"taskType": "cod"}}, 400),
    (SELECT, {"json": {**CODE, "requirements": {"maxToken": 1}}}, 400),
    (SELECT, {"json": []}, 400),
    (SELECT, {"content": b"", "headers": JSON}, 400),
    (SELECT, {"content": b"{", "headers": JSON}, 400),
    (SELECT, {"content": b'{"taskType": "\xff"}', "headers": JSON}, 400),
    (SELECT, {"content": b"[" * 100_000, "headers": JSON}, 400),
    (SELECT, {"content": b"{}"}, 415),
    (SELECT, {"data": {"taskType": "code"}}, 415),
    (SELECT, {"files": {"taskType": b"code"}}, 415),
    (ROUTE, {"json": CODE}, 400),
    (ROUTE, {"content": LARGE, "headers": JSON}, 413),
    (CHAT, {"json": {"model": "auto"}}, 400),
    (CHAT, {"json": {"model": "auto", "messages": [{"role": "robot"}]}}, 400),
    (CHAT, {"json": {"model": "nobody", "messages": HELLO}}, 404),
    (CHAT, {"content": b"[" * 100_000, "headers": JSON}, 400),
    (CHAT, {"content": b"{}"}, 415),
    (CHAT, {"content": LARGE, "headers": JSON}, 413),
]


@pytest.mark.parametrize(("path", "request_", "status"), REFUSALS)
def test_refusals_are_alike(
    client: httpx.Client, path: str, request_: dict[str, Any], status: int
) -> None:
    lane, drf = (
        client.post(path, **{**request_, "headers": {**request_.get("headers", {}), **door}})
        for door in (LANE, DRF)
    )
    assert (lane.status_code, drf.status_code) == (status, status)
    expected = "application/json" if path == CHAT else "application/problem+json"
    assert lane.headers["content-type"] == drf.headers["content-type"] == expected
    told, other = lane.json(), drf.json()
    if status == 413:
        # Django refuses a large body in its own words.
        told, other = shape(told), shape(other)
    assert {**told, "requestId": None} == {**other, "requestId": None}


@pytest.mark.parametrize("path", [SELECT, ROUTE, CHAT])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused_with_the_right_one(
    client: httpx.Client, path: str, method: str
) -> None:
    refused = client.request(method, path, headers=LANE)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST, OPTIONS")
    assert "error" in refused.json() if path == CHAT else refused.json()["status"] == 405


def test_a_strange_host_is_refused_by_both(client: httpx.Client) -> None:
    for door in (LANE, DRF):
        refused = client.post(SELECT, json=CODE, headers={**door, "host": "evil.example"})
        assert refused.status_code == 400
        assert refused.json()["status"] == 400


def test_a_stream_is_alike(client: httpx.Client) -> None:
    body = {**SMALL, "stream": True, "temperature": 0, "stream_options": {"include_usage": True}}
    lane, drf = (client.post(CHAT, json=body, headers=door) for door in (LANE, DRF))
    assert lane.headers["content-type"] == drf.headers["content-type"]
    assert lane.headers["content-type"].startswith("text/event-stream")
    assert lane.text.endswith("data: [DONE]\n\n")
    assert drf.text.endswith("data: [DONE]\n\n")
    assert lane.text.count("\n\n") == drf.text.count("\n\n")


def test_a_native_stream_is_alike(client: httpx.Client) -> None:
    body = {**CODE, "prompt": "Hello", "requirements": {"maxTokens": 2, "temperature": 0}}
    heard = [client.post(ROUTE, json={**body, "stream": True}, headers=d) for d in (LANE, DRF)]
    assert heard[0].headers["content-type"] == heard[1].headers["content-type"]
    assert heard[0].headers["content-type"].startswith("text/event-stream")
    events = [[part.split("\n")[0] for part in h.text.split("\n\n") if part] for h in heard]
    assert {"event: start", "event: delta", "event: done"} == set(events[0]) == set(events[1])


@pytest.fixture
def simulator(live_service: LiveService) -> Iterator[httpx.Client]:
    """The simulator behind the service, whose faults are gone afterwards."""
    greeting, found = live_service.home.root / "up.txt", None
    while found is None:  # it is ready a moment before it says where everything is
        time.sleep(0.05)
        found = re.search(r"simulated at (\S+),", greeting.read_text())
    url = found[1]
    with httpx.Client(base_url=f"{url}/_sim") as made:
        yield made
        made.delete("/faults")


def cancelled(simulator: httpx.Client) -> int:
    """Return how many calls the model's server saw end before their time."""
    return int(simulator.get("/state").json()["totals"]["cancelled"])


def settle(url: str, body: dict[str, Any]) -> None:
    """Ask until the same model answers twice: the next call will find it loaded.

    A load that nobody waits for any more is finished all the same, so leaving does not end it.
    """
    answered: list[str] = []
    while len(answered) < 2 or len(set(answered[-2:])) > 1:
        told = httpx.post(url, json=body, timeout=30).json()
        answered.append(told.get("selectedModel") or told["model"])


@pytest.mark.parametrize("door", [LANE, DRF], ids=["lane", "drf"])
@pytest.mark.parametrize("path", [ROUTE, CHAT])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_leaving_ends_the_upstream_call(
    live_service: LiveService,
    simulator: httpx.Client,
    door: dict[str, str],
    path: str,
    stream: bool,
) -> None:
    """The model's server is told within a second, whichever door the caller came through."""
    body = {**SMALL, "max_tokens": 9} if path == CHAT else ROUTED
    settle(f"{live_service.url}{path}", body)
    silence = {"kind": "silence", "after_tokens": 2 if stream else 0}
    assert simulator.put("/faults", json={"faults": [silence]}).status_code == 200
    before = cancelled(simulator)
    with (
        contextlib.suppress(httpx.ReadTimeout),
        httpx.Client(base_url=live_service.url, timeout=10 if stream else 0.5) as client,
        client.stream("POST", path, json={**body, "stream": stream}, headers=door) as heard,
    ):
        next(heard.iter_bytes())
    end = time.monotonic() + 1
    while cancelled(simulator) == before:
        assert time.monotonic() < end, "the upstream call goes on"
        time.sleep(0.05)


def test_a_browser_gets_a_page_with_a_form(client: httpx.Client) -> None:
    page = client.get(SELECT, headers={"accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "select-model" in page.text
    answer = client.post(SELECT, json=CODE, headers={"accept": "text/html"})
    assert (answer.status_code, "selectedModel" in answer.text) == (200, True)

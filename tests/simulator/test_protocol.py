"""What is not inference: detection, bad requests, callers who leave."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from routing.simulator import wire
from routing.simulator.asking import seconds
from routing.simulator.course import Refused
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.simulator.cast import CAST

WHOLE = {"model": "small:1b", "prompt": "Why?", "stream": False}


@pytest.fixture
def host(start_simulator: StartSimulator) -> SimulatedHost:
    return start_simulator(CAST, speed=10)


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_simulator_says_that_it_is_one(host: SimulatedHost, method: str, path: str) -> None:
    answer = host.http.request(method, path)
    assert (answer.status_code, answer.headers["x-simulated"]) == (200, "true")
    assert (answer.content == b"") == (method == "HEAD")


def test_root_and_version_speak_like_ollama(host: SimulatedHost) -> None:
    assert host.http.get("/").text == "Ollama is running"
    assert host.http.get("/api/version").json() == {"version": "0.0.0-simulated"}
    assert host.http.get("/_sim/state").json()["simulated"] is True


def test_unknown_paths_and_methods_are_refused(host: SimulatedHost) -> None:
    missing = host.http.post("/api/pull", json={"model": "x"})
    assert (missing.status_code, missing.text) == (404, "404 page not found")
    wrong = host.http.get("/api/generate")
    assert (wrong.status_code, wrong.text) == (405, "405 method not allowed")


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("/api/generate", b"", "missing request body"),
        ("/api/generate", b"{", "Input data was truncated"),
        ("/api/generate", b'{"format":' + b"[" * 100_000, "maximum recursion depth"),
        ("/api/generate", b'{"model": "\xff"}', "utf-8"),
        ("/api/generate", b'{"prompt": "x"}', "model is required"),
        ("/api/generate", b'{"model": "small:1b", "prompt": 3}', "$.prompt"),
        ("/api/generate", b'{"model": "small:1b", "prompt": "x", "format": 3}', "invalid format"),
        (
            "/api/generate",
            b'{"model": "small:1b", "prompt": "x", "keep_alive": "soon"}',
            'invalid duration "soon"',
        ),
        (
            "/api/generate",
            b'{"model": "small:1b", "prompt": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",'
            b' "truncate": false, "options": {"num_ctx": 4}}',
            "the input length exceeds the context length",
        ),
        ("/api/chat", b'{"model": "small:1b", "messages": "hi"}', "$.messages"),
        ("/api/chat", b'{"model": "small:1b", "options": {"num_ctx": "x"}}', "$.options.num_ctx"),
        ("/api/embed", b'{"model": "small:1b", "input": [1]}', "$.input[0]"),
        ("/v1/chat/completions", b'{"model": "small:1b"}', "is too short - 'messages'"),
        ("/v1/embeddings", b'{"model": "small:1b"}', "invalid input"),
    ],
)
def test_a_bad_request_is_a_400_with_the_reason(
    host: SimulatedHost, path: str, body: bytes, complaint: str
) -> None:
    answer = host.http.post(path, content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert complaint in (error["message"] if path.startswith("/v1/") else error)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), (30, 30), (-1, -1), ("5m", 300), ("1h30m", 5400), ("-1s", -1), ("250ms", 0.25)],
)
def test_keep_alive_is_a_number_or_gos_duration(value: Any, expected: float | None) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize("value", ["", "5", "m", "5 m", "--5m", "5m!"])
def test_other_durations_are_refused(value: str) -> None:
    with pytest.raises(Refused, match="time: invalid duration"):
        seconds(value)


def test_a_caller_who_leaves_frees_the_model(start_simulator: StartSimulator) -> None:
    host = start_simulator(CAST)
    ask = {"model": "slow:1b", "prompt": "Why?"}
    with host.http.stream("POST", "/api/generate", json=ask) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert host.state()["loaded"][0]["active"] == 1
    until(lambda: host.state()["loaded"][0]["active"] == 0)
    assert host.state()["totals"]["cancelled"] == 1


def test_a_caller_who_leaves_the_queue_is_forgotten(host: SimulatedHost) -> None:
    with pytest.raises(httpx.ReadTimeout):
        host.http.post("/api/generate", json={**WHOLE, "model": "big:3b"}, timeout=0.01)
    until(lambda: host.state()["waiting"] == 0)
    assert host.state()["loaded"] == []


def test_pace_follows_tokens_per_second(host: SimulatedHost) -> None:
    ask = {**WHOLE, "model": "slow:1b"}
    answer = host.http.post("/api/generate", json=ask).json()
    # 40 tokens at 20 a second, ten times as fast as life; it may be early by a millisecond.
    assert answer["eval_count"] == 40
    assert 0.199e9 <= answer["eval_duration"] < 2e9


def test_reading_the_prompt_takes_time_too(host: SimulatedHost) -> None:
    ask = {**WHOLE, "prompt": "x" * 12_000, "options": {"num_ctx": 8192}}
    answer = host.http.post("/api/generate", json=ask).json()
    # 3000 tokens at 1000 a second, ten times as fast as life; timers may be early by a hair.
    assert answer["prompt_eval_count"] == 3000
    assert 0.299e9 <= answer["prompt_eval_duration"] < 2e9


def test_instant_mode_answers_without_delay(start_simulator: StartSimulator) -> None:
    instant = start_simulator(instant=True)
    ask = {"model": "llama3.1:70b", "prompt": "Why?", "options": {"num_predict": 1000}}
    answer = instant.http.post("/api/generate", json={**ask, "stream": False})
    # Life would take 22 s to load and 18 s to answer.
    assert answer.elapsed.total_seconds() < 2
    assert answer.json()["done"]


def test_a_body_too_large_is_refused(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY_BYTES", 10**6)
    answer = host.http.post("/api/chat", content=b" " * (10**6 + 1))
    assert (answer.status_code, answer.json()) == (413, {"error": "request body too large"})


def until(condition: Callable[[], bool], limit_s: float = 3.0) -> None:
    """Wait for the condition, and fail if it does not come true in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

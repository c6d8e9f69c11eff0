"""Each fault, as a client sees it on the wire."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from routing.simulator.faults import Fault, FaultBoard
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.simulator.cast import CAST

ASK = {"model": "small:1b", "prompt": "Why?"}
WHOLE = {**ASK, "stream": False}
CHAT = {"model": "small:1b", "messages": [{"role": "user", "content": "Why?"}]}


@pytest.fixture
def host(start_simulator: StartSimulator) -> SimulatedHost:
    return start_simulator(CAST, speed=100)


@pytest.fixture
def client(host: SimulatedHost) -> httpx.Client:
    return host.http


def lines(client: httpx.Client, path: str = "/api/generate", ask: Any = ASK) -> Iterator[str]:
    """Yield the lines of a streamed answer; httpx raises where the connection breaks."""
    with client.stream("POST", path, json=ask) as answer:
        assert answer.status_code == 200
        yield from filter(None, answer.iter_lines())


def gather(client: httpx.Client, **more: Any) -> tuple[list[str], Exception | None]:
    taken: list[str] = []
    try:
        for line in lines(client, **more):
            taken.append(line)
    except httpx.TransportError as exc:
        return taken, exc
    return taken, None


def test_http_error_names_status_body_and_when_to_retry(
    host: SimulatedHost, client: httpx.Client
) -> None:
    host.fail("http_error", status=503, retry_after_s=7, message="overloaded")
    answer = client.post("/api/generate", json=ASK)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.json() == {"error": "overloaded"}
    host.fail("http_error", status=429, body='{"other": "shape"}')
    assert client.post("/v1/chat/completions", json=CHAT).json() == {"other": "shape"}


def test_delay_comes_first_and_adds_up(host: SimulatedHost, client: httpx.Client) -> None:
    delay = {"kind": "delay", "delay_ms": 60}
    client.put("/_sim/faults", json={"faults": [delay, delay]})
    answer = client.post("/api/generate", json=WHOLE)
    assert answer.json()["done"]
    assert answer.elapsed.total_seconds() >= 0.12


@pytest.mark.parametrize("ask", [ASK, WHOLE])
def test_silence_sends_nothing_at_all(
    host: SimulatedHost, client: httpx.Client, ask: dict[str, Any]
) -> None:
    host.fail("silence")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/api/generate", json=ask, timeout=0.2)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("silence", httpx.ReadTimeout),
        ("cut", httpx.RemoteProtocolError),
        ("short_body", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
    ],
)
def test_a_stream_breaks_after_so_many_tokens(
    host: SimulatedHost, client: httpx.Client, kind: str, error: type[Exception]
) -> None:
    host.fail(kind, after_tokens=3)
    client.timeout = httpx.Timeout(0.3)
    came, ended = gather(client)
    assert [json.loads(line)["done"] for line in came] == [False] * 3
    assert type(ended) is error


@pytest.mark.parametrize(
    ("kind", "error"), [("cut", httpx.RemoteProtocolError), ("reset", httpx.ReadError)]
)
def test_a_connection_can_break_before_the_first_byte(
    host: SimulatedHost, client: httpx.Client, kind: str, error: type[Exception]
) -> None:
    host.fail(kind)
    with pytest.raises(error):
        client.post("/api/generate", json=WHOLE)


def test_error_line_ends_a_200(host: SimulatedHost, client: httpx.Client) -> None:
    host.fail("error_line", after_tokens=2, message="out of memory")
    came, ended = gather(client)
    assert ended is None
    assert len(came) == 3
    assert json.loads(came[-1]) == {"error": "out of memory"}


def test_html_stands_where_json_should(host: SimulatedHost, client: httpx.Client) -> None:
    host.fail("html", status=502)
    answer = client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 502
    assert answer.headers["content-type"].startswith("text/html")
    assert "<html>" in answer.text


@pytest.mark.parametrize("path", ["/api/generate", "/v1/completions"])
def test_malformed_json_whole_and_in_a_stream(
    host: SimulatedHost, client: httpx.Client, path: str
) -> None:
    host.fail("malformed_json", after_tokens=1)
    whole = client.post(path, json=WHOLE)
    assert whole.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        whole.json()
    came, ended = gather(client, path=path, ask={**ASK, "stream": True})
    assert ended is None
    json.loads(came[0].removeprefix("data: "))
    with pytest.raises(json.JSONDecodeError):
        json.loads(came[-1].removeprefix("data: "))


def test_no_end_leaves_out_the_end_marker(host: SimulatedHost, client: httpx.Client) -> None:
    host.fail("no_end")
    came, ended = gather(client)
    assert ended is None
    assert [json.loads(line)["done"] for line in came] == [False] * 12
    came, _ = gather(client, path="/v1/chat/completions", ask={**CHAT, "stream": True})
    assert "data: [DONE]" not in came
    assert client.post("/api/generate", json=WHOLE).json()["done"] is False
    whole = client.post("/v1/chat/completions", json=CHAT).json()
    assert whole["choices"][0]["finish_reason"] is None


def test_short_body_is_shorter_than_it_says(host: SimulatedHost, client: httpx.Client) -> None:
    host.fail("short_body")
    with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
        client.post("/api/generate", json=WHOLE)


def test_a_fault_beyond_the_answer_strikes_at_its_end(
    host: SimulatedHost, client: httpx.Client
) -> None:
    host.fail("cut", after_tokens=1000)
    came, ended = gather(client)
    assert len(came) == 12
    assert type(ended) is httpx.RemoteProtocolError


def test_a_fault_strikes_only_its_model_its_path_and_so_often(
    host: SimulatedHost, client: httpx.Client
) -> None:
    host.fail("http_error", model="small:1b", count=2)
    assert client.post("/api/generate", json={**WHOLE, "model": "other:1b"}).status_code == 200
    assert client.get("/api/tags").status_code == 200
    statuses = [client.post("/api/generate", json=WHOLE).status_code for _ in range(3)]
    assert statuses == [500, 500, 200]
    host.fail("http_error", path="/api/tags")
    assert client.get("/api/tags").status_code == 500
    assert client.post("/api/generate", json=WHOLE).status_code == 200
    host.recover()
    assert client.get("/api/tags").status_code == 200


def test_faults_strike_in_instant_mode_too(start_simulator: StartSimulator) -> None:
    host = start_simulator(CAST, instant=True)
    assert len(gather(host.http)[0]) == 13
    host.fail("cut", after_tokens=3)
    assert len(gather(host.http)[0]) == 3


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"kind": "explosion"}, "$.faults[0].kind"),
        ({"kind": "cut", "after": 3}, "unknown field `after`"),
        ({"kind": "cut", "probability": 2}, "$.faults[0].probability"),
        ({}, "missing required field `kind`"),
    ],
)
def test_a_wrong_rule_is_refused_and_names_its_field(
    client: httpx.Client, rule: dict[str, Any], complaint: str
) -> None:
    answer = client.put("/_sim/faults", json={"faults": [rule]})
    assert answer.status_code == 400
    assert complaint in answer.json()["error"]


def test_the_state_shows_faults_and_their_strikes(
    host: SimulatedHost, client: httpx.Client
) -> None:
    host.fail("http_error", count=5)
    client.post("/api/generate", json=WHOLE)
    [rule] = host.state()["faults"]
    assert (rule["kind"], rule["count"], rule["strikes"]) == ("http_error", 5, 1)


def test_probability_strikes_about_as_often_and_the_same_with_the_same_seed() -> None:
    def strikes(seed: int) -> list[bool]:
        board = FaultBoard(seed)
        board.replace((Fault(kind="reset", probability=0.25),))
        return [board.strike("/api/chat", "small:1b")[1] is not None for _ in range(1000)]

    assert 200 < sum(strikes(1)) < 300
    assert strikes(1) == strikes(1) != strikes(2)

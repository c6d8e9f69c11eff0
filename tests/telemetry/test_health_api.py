"""GET /api/v1/health: healthy, degraded, unhealthy, and never slow."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis as client_of
from django.db import connections
from django.test import Client

from telemetry import redis_names, state_news
from telemetry.state_news import EndpointNews
from tests.telemetry.policy import a_model, an_endpoint

PATH = "/api/v1/health"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hanging() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def ollama() -> Iterator[str]:
    """An Ollama that nobody has news of yet."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {
                "/api/version": {"version": "0.9.9"},
                "/v1/models": {"data": [{"id": "a:3b"}]},
            }
            body = json.dumps(answers.get(self.path, {"models": []})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def conducted(redis_url: str, *news: EndpointNews) -> None:
    """Leave in Redis what a living conductor leaves there."""
    with client_of.Redis.from_url(redis_url) as redis:
        redis.set(redis_names.LIVE_LAST, json.dumps({"at_ms": int(time.time() * 1000)}))
        for one in news:
            redis.hset(redis_names.STATE_LAST, one.key, state_news.encode(one))


def seen(endpoint: str, **changes: Any) -> EndpointNews:
    return EndpointNews(**{"endpoint": endpoint, "up": True, "at": time.time(), **changes})


def test_all_is_well(client: Client, redis_url: str) -> None:
    here = an_endpoint()
    a_model("a:3b", here)
    a_model("b:7b", here)
    conducted(redis_url, seen("here", version="0.5.1"))
    answer = client.get(PATH)
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "healthy")
    assert body["services"] == {"database": "ok", "redis": "ok", "ollama": "ok"}
    assert set(body["system"]) == {
        "memory_pressure", "available_models", "memory_available_gb", "cpu_usage_percent",
    }  # fmt: skip
    assert body["system"]["available_models"] == 2
    assert body["endpoints"]["here"] == {
        "up": True, "version": "0.5.1", "simulated": False, "error": "",
    }  # fmt: skip
    assert (body["version"], body["simulated"], body["conductor"]) == ("1.0.0", False, "ok")
    assert answer["cache-control"] == "no-store"


def test_some_endpoint_down_is_degraded(client: Client, redis_url: str) -> None:
    a_model("a:3b", an_endpoint(), an_endpoint("there"))
    conducted(redis_url, seen("here"), seen("there", up=False, error="refused"))
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["endpoints"]["there"]["error"] == "refused"


def test_nothing_that_can_be_routed_is_unhealthy(client: Client, redis_url: str) -> None:
    a_model("a:3b", an_endpoint())
    conducted(redis_url, seen("here", up=False))
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
    assert answer.json()["services"] == {"database": "ok", "redis": "ok", "ollama": "error"}


def test_no_conductor_is_degraded(client: Client, redis_url: str) -> None:
    a_model("a:3b", an_endpoint())
    conducted(redis_url, seen("here"))
    with client_of.Redis.from_url(redis_url) as redis:
        redis.set(redis_names.LIVE_LAST, json.dumps({"at_ms": 0}))
    body = client.get(PATH).json()
    assert (body["status"], body["conductor"]) == ("degraded", "error")


def test_an_endpoint_without_news_is_asked(client: Client, redis_url: str, ollama: str) -> None:
    a_model("a:3b", an_endpoint("asked", base_url=ollama))
    conducted(redis_url, seen("asked", up=False, at=time.time() - 3600))
    body = client.get(PATH).json()
    assert body["endpoints"]["asked"]["version"] == "0.9.9"
    assert body["services"]["ollama"] == "ok"


@pytest.mark.parametrize("fault", ["refused", "hangs"])
def test_redis_away_is_degraded_and_told_in_time(
    client: Client, redis_url: str, settings: Any, tmp_path: Any, hanging: int, fault: str
) -> None:
    a_model("a:3b", an_endpoint())
    away = f"unix://{tmp_path}/none.sock"
    settings.REDIS_URL = away if fault == "refused" else f"redis://127.0.0.1:{hanging}"
    started = time.monotonic()
    answer = client.get(PATH)
    assert time.monotonic() - started < 3
    body = answer.json()
    assert body["services"]["redis"] == "error"
    assert body["services"]["database"] == "ok"
    # Whether the one endpoint answers was found out without Redis.
    assert "Nothing answers" in body["endpoints"]["here"]["error"]


def test_without_redis_it_is_degraded(
    client: Client, redis_url: str, settings: Any, tmp_path: Any, ollama: str
) -> None:
    a_model("a:3b", an_endpoint(base_url=ollama, provider="openai"))
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    answer = client.get(PATH)
    assert answer.json()["endpoints"]["here"]["error"] == ""
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


@pytest.mark.parametrize("fault", ["refused", "hangs"])
def test_the_database_away_is_unhealthy_and_told_in_time(
    client: Client, redis_url: str, hanging: int, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    conducted(redis_url)
    parameters = connections["default"].get_connection_params()
    port = hanging if fault == "hangs" else 1
    parameters |= {"host": "127.0.0.1", "port": port, "user": "u", "password": "p"}
    monkeypatch.setattr(
        type(connections["default"]), "get_connection_params", lambda self: dict(parameters)
    )
    started = time.monotonic()
    answer = client.get(PATH)
    assert time.monotonic() - started < 3
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
    assert answer.json()["services"]["database"] == "error"


def test_a_hanging_endpoint_does_not_hold_it_up(
    client: Client, redis_url: str, hanging: int
) -> None:
    a_model("a:3b", an_endpoint(base_url=f"http://127.0.0.1:{hanging}"))
    conducted(redis_url)
    started = time.monotonic()
    body = client.get(PATH).json()
    assert time.monotonic() - started < 3
    assert body["endpoints"]["here"]["error"] == "It did not answer in time."


def test_parameters_are_refused(client: Client) -> None:
    assert client.get(f"{PATH}?verbose=1").status_code == 400

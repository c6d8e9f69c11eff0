"""Which Ollama is routed to: the operator's whatever its state, the machine's, or a simulator."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from orchestra_site import ollama
from tests.service import free_port


class Version(http.server.BaseHTTPRequestHandler):
    answer = b'{"version": "0.9.0"}'

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Other(Version):
    answer = b"[]"


def serve(handler: type[Version]) -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def running() -> Iterator[str]:
    yield from serve(Version)


@pytest.fixture
def something_else() -> Iterator[str]:
    yield from serve(Other)


def test_a_configured_ollama_is_never_replaced() -> None:
    down = f"http://127.0.0.1:{free_port()}"
    assert ollama.find(down, simulate=False) == ollama.Upstream(down)


def test_the_machines_own_is_used(running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "DEFAULT_OLLAMA_URL", running)
    assert ollama.find(None, simulate=False) == ollama.Upstream(running)


def test_without_one_the_simulator_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "DEFAULT_OLLAMA_URL", f"http://127.0.0.1:{free_port()}")
    found = ollama.find(None, simulate=False)
    assert found.simulator_port is not None
    assert found.url == f"http://127.0.0.1:{found.simulator_port}"


def test_the_simulator_may_be_asked_for(running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ollama, "DEFAULT_OLLAMA_URL", running)
    assert ollama.find(None, simulate=True).simulator_port is not None


def test_what_is_not_ollama_does_not_count(something_else: str) -> None:
    assert not ollama.answers(something_else)

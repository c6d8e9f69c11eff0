"""A small real HTTP server that answers as a test tells it to, faults included."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Write = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Reply:
    """What to answer; `write` replaces all of it for faults below HTTP."""

    body: bytes = b"{}"
    status: int = HTTPStatus.OK
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    write: Write | None = None


def json_reply(document: object, status: int = HTTPStatus.OK, **headers: str) -> Reply:
    """A reply with this document; underscores in header names become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(document).encode(), status, headers=named)


@dataclass(frozen=True)
class Request:
    """What arrived."""

    method: str
    target: str
    payload: object


class Service:
    """Answers every path it has a reply for, with or without a query, and 404 elsewhere."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.replies: dict[str, Reply] = {}
        self.requests: list[Request] = []
        self.released = threading.Event()

    def reply(self, target: str) -> Reply:
        missing = json_reply({"title": "Not found", "status": 404}, 404)
        return self.replies.get(target.partition("?")[0], self.replies.get("*", missing))


class _Server(ThreadingHTTPServer):
    service: Service

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a caller that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, payload: object) -> None:
        service = self.server.service
        service.requests.append(Request(self.command, self.path, payload))
        reply = service.reply(self.path)
        if reply.write is not None:
            reply.write(self)
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def running_service() -> Iterator[Service]:
    """A service on a free port of this machine until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.service = Service(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.service
    finally:
        server.service.released.set()
        server.shutdown()
        server.server_close()
        thread.join()

"""The door behind a real uvicorn, spoken to in bytes."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from routing.lanes.door import MAX_BODY_BYTES
from tests.cast import ALPHA, CATALOGUE, document
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.serving import Served, serving
from tests.lanes.stage import ROUTE, SELECT, at

HEAD = "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CODE = b'{"taskType": "completion"}'


@pytest.fixture
def host(start_simulator: StartSimulator) -> SimulatedHost:
    return start_simulator(CATALOGUE, speed=1000)


@pytest.fixture
def served(tmp_path: Path, host: SimulatedHost) -> Iterator[Served]:
    with serving(tmp_path / "spool", document((ALPHA,), (at(host.url),))) as made:
        yield made


@contextlib.contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    address = served.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=5) as connection:
        yield connection


def status_of(connection: socket.socket) -> int:
    """Return the status of the next answer."""
    return int(connection.recv(65536).split(b" ", 2)[1])


def head(path: str, **headers: str) -> bytes:
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
    return (HEAD.format(path=path) + lines + "\r\n").encode()


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


def test_a_body_in_chunks(served: Served) -> None:
    parts = [bytes([byte]) for byte in CODE]
    with connected(served) as connection:
        connection.sendall(head(SELECT, transfer_encoding="chunked") + chunked(*parts, b""))
        assert status_of(connection) == 200


def test_an_announced_body_too_large_is_refused_at_once(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(head(ROUTE, content_length=str(MAX_BODY_BYTES + 1)))
        assert status_of(connection) == 413


def test_a_body_that_grows_too_large_is_refused(served: Served) -> None:
    part = chunked(b"x" * 65536)
    with connected(served) as connection:
        connection.sendall(head(ROUTE, transfer_encoding="chunked"))
        with contextlib.suppress(ConnectionError):
            for _ in range(MAX_BODY_BYTES // 65536 + 2):
                connection.sendall(part)
        assert status_of(connection) == 413


def test_two_requests_on_one_connection(served: Served) -> None:
    with connected(served) as connection:
        for _ in range(2):
            connection.sendall(head(SELECT, content_length=str(len(CODE))) + CODE)
            assert status_of(connection) == 200


def test_a_caller_who_hangs_up_while_sending_is_forgotten(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(head(ROUTE, content_length="500") + b"{")
    with connected(served) as connection:
        connection.sendall(head(SELECT, content_length=str(len(CODE))) + CODE)
        assert status_of(connection) == 200
    assert [r.kind for r in served.records()] == ["select"]


def test_a_caller_who_hangs_up_while_waiting_ends_the_work(
    served: Served, host: SimulatedHost
) -> None:
    host.fail("silence")
    body = json.dumps({"taskType": "completion", "prompt": "hi"}).encode()
    with connected(served) as connection:
        connection.sendall(head(ROUTE, content_length=str(len(body))) + body)
        time.sleep(0.3)
    end = time.monotonic() + 1
    while host.sim.cancelled == 0 and time.monotonic() < end:
        time.sleep(0.01)
    assert host.sim.cancelled == 1
    assert [r.status for r in served.records()] == [499]


def test_a_host_header_of_another_site_is_refused(served: Served) -> None:
    with connected(served) as connection:
        connection.sendall(
            head(SELECT, content_length="2").replace(b"host: localhost", b"host: evil.example")
            + b"{}"
        )
        assert status_of(connection) == 400

"""`export`: a whole file under its name, or none."""

from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from cli.client import _copied
from cli.errors import OutputFault
from tests.cli.conftest import Run
from tests.cli.service import Reply, Service, json_reply

PATH = "/api/v1/ai/analytics/requests"
CSV = b"created_at,id\n2026-11-23T12:00:00.000000Z,1\n" * 9000


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    """Announce more than is sent."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CSV)))
    handler.end_headers()
    handler.wfile.write(CSV[:70_000])


def cut_off_chunked(handler: BaseHTTPRequestHandler) -> None:
    """Leave out the last chunk, as a server does that failed on the way."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"5\r\nhello\r\n")


def test_the_file_is_what_the_service_sends(run: Run, service: Service, tmp_path: Path) -> None:
    service.replies = {PATH: Reply(CSV, content_type="text/csv")}
    target = tmp_path / "out.csv"
    target.write_text("older")
    result = run("export", "--output", str(target), "--from", "2026-11-01", "--to", "2026-11-02")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"{target}: {len(CSV):,} bytes of csv\n"
    assert target.read_bytes() == CSV
    asked = parse_qs(urlsplit(service.requests[0].target).query)
    assert asked == {"format": ["csv"], "from": ["2026-11-01"], "to": ["2026-11-02"]}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("x.parquet",), "parquet"),
        (("x.dat",), "csv"),
        (("x.csv", "--format", "parquet"), "parquet"),
    ],
)
def test_the_ending_says_the_format(
    run: Run, service: Service, tmp_path: Path, arguments: tuple[str, ...], wanted: str
) -> None:
    service.replies = {PATH: Reply(b"PAR1")}
    name, *more = arguments
    assert run("export", "--output", str(tmp_path / name), *more).code == 0
    assert f"format={wanted}" in service.requests[0].target


@pytest.mark.parametrize("write", [cut_off, cut_off_chunked])
def test_half_a_file_is_none(run: Run, service: Service, tmp_path: Path, write: object) -> None:
    service.replies = {PATH: Reply(write=write)}  # type: ignore[arg-type]
    target = tmp_path / "out.csv"
    target.write_text("older")
    result = run("export", "--output", str(target))
    assert result.code == 3
    assert "before the answer was whole" in result.err
    assert target.read_text() == "older"
    assert list(tmp_path.iterdir()) == [target]


def test_a_refusal_names_the_option(run: Run, service: Service, tmp_path: Path) -> None:
    problem = {
        "title": "The request is not valid.", "status": 400, "detail": "from: Ask for less.",
        "errors": [{"pointer": "/from", "detail": "Ask for less."}],
    }  # fmt: skip
    service.replies = {"*": json_reply(problem, 400)}
    result = run("export", "--output", str(tmp_path / "x.csv"), "--from", "2020-01-01")
    assert result.code == 2
    assert "--from: Ask for less." in result.err
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written(run: Run, service: Service, tmp_path: Path) -> None:
    result = run("export", "--output", str(tmp_path / "no" / "x.csv"))
    assert result.code == 2
    assert "--output" in result.err
    assert service.requests == []


def test_what_is_no_file_is_not_replaced(run: Run, service: Service, tmp_path: Path) -> None:
    result = run("export", "--output", str(tmp_path))
    assert result.code == 2
    assert "is no file" in result.err
    assert service.requests == []


def test_a_full_disk_is_told_as_such() -> None:
    response = HTTPResponse(_Said(CSV))  # type: ignore[arg-type]
    response.begin()
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OutputFault, match="written"):
        _copied(response, full)


class _Said:
    """A socket that has said one answer."""

    def __init__(self, body: bytes) -> None:
        self.said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.said)

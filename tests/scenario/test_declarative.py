"""scenario-test.yaml, carried out: its structure here, its tests against the running service."""

import time
from pathlib import Path

import httpx
import msgspec
import pytest

from tests.scenario.declarative import ExecTest, HttpTest, differences, read, run
from tests.service import LiveService

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "scenario-test.yaml"
SCENARIO = read(FILE)


@pytest.fixture(scope="module")
def url(live_service: LiveService) -> str:
    """The service's address, once it is healthy; `health_timeout` bounds the wait."""
    deadline = time.monotonic() + SCENARIO.resources.health_timeout
    while time.monotonic() < deadline:
        if httpx.get(f"{live_service.url}/api/v1/health").json().get("status") == "healthy":
            break
        time.sleep(0.1)
    return live_service.url


@pytest.mark.parametrize("path", SCENARIO.structure.required_files)
def test_required_files_are_there(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("path", SCENARIO.structure.required_dirs)
def test_required_directories_are_there(path: str) -> None:
    assert (ROOT / path).is_dir()


@pytest.mark.parametrize("test", SCENARIO.tests, ids=lambda test: test.name)
def test_declared(test: HttpTest | ExecTest, url: str) -> None:
    assert run(test, root=ROOT, url=url) == []


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "scenario.yaml"
    copy.write_text(FILE.read_text().replace("content_type", "contenttype"))
    with pytest.raises(msgspec.ValidationError, match="contenttype"):
        read(copy)


def test_differences_are_found() -> None:
    expected = {"a": "[string]", "b": {"c": "ok"}, "d": "[object]"}
    assert differences(expected, {"a": "x", "b": {"c": "ok", "e": 1}, "d": {}}) == []
    assert differences(expected, {"a": "", "b": {"c": "error"}}) == [
        "$.a: [string] expected, got ''",
        "$.b.c: 'ok' expected, got 'error'",
        "$.d: [object] expected, got None",
    ]
    assert differences(200, 503, "status") == ["status: 200 expected, got 503"]

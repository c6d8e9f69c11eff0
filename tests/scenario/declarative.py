"""Reads and carries out a declarative scenario file, refusing whatever it does not know."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
import yaml

from tests.environment import outside

_KINDS: dict[str, type] = {
    "[string]": str,
    "[number]": float,
    "[boolean]": bool,
    "[object]": dict,
    "[array]": list,
}


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A part of the file; a misspelt key is an error, not a check that never runs."""


class Structure(_Strict, frozen=True):
    required_files: tuple[str, ...]
    required_dirs: tuple[str, ...]


class Resources(_Strict, frozen=True):
    required: tuple[str, ...]
    optional: tuple[str, ...]
    health_timeout: int  # seconds


class HttpExpectation(_Strict, frozen=True):
    status: int
    content_type: str | None = None
    body: dict[str, Any] | None = None


class HttpTest(_Strict, frozen=True, tag_field="type", tag="http"):
    name: str
    service: Literal["orchestrator"]
    endpoint: str
    method: Literal["GET", "POST"]
    expect: HttpExpectation
    body: dict[str, Any] | None = None


class ExecExpectation(_Strict, frozen=True):
    exit_code: int
    output_contains: tuple[str, ...] = ()


class ExecTest(_Strict, frozen=True, tag_field="type", tag="exec"):
    name: str
    command: str
    expect: ExecExpectation


class Scenario(_Strict, frozen=True):
    version: float
    scenario: str
    structure: Structure
    resources: Resources
    tests: tuple[HttpTest | ExecTest, ...]


def read(path: Path) -> Scenario:
    """Return the scenario; raises msgspec.ValidationError naming the path of what is wrong."""
    return msgspec.convert(yaml.safe_load(path.read_text()), Scenario)


def differences(expected: Any, actual: Any, at: str = "$") -> list[str]:
    """Return where `actual` lacks or contradicts what is expected; more than expected is fine."""
    if isinstance(expected, str) and expected in _KINDS:
        right = isinstance(actual, _KINDS[expected]) and actual != ""
        return [] if right else [f"{at}: {expected} expected, got {actual!r}"]
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return [f"{at}: an object expected, got {actual!r}"]
        return [
            line
            for key, value in expected.items()
            for line in differences(value, actual.get(key), f"{at}.{key}")
        ]
    return [] if expected == actual else [f"{at}: {expected!r} expected, got {actual!r}"]


def run(test: HttpTest | ExecTest, *, root: Path, url: str) -> list[str]:
    """Carry one test out against the service at `url`; return what was not as expected."""
    if isinstance(test, HttpTest):
        return _run_http(test, url)
    return _run_exec(test, root, url)


def _run_http(test: HttpTest, url: str) -> list[str]:
    response = httpx.request(test.method, url + test.endpoint, json=test.body, timeout=30)
    found = differences(test.expect.status, response.status_code, "status")
    kind = response.headers.get("content-type", "").partition(";")[0]
    if test.expect.content_type is not None:
        found += differences(test.expect.content_type, kind, "content_type")
    if test.expect.body is not None:
        found += differences(test.expect.body, _json(response.content), "body")
    return found


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content[:200]


def _run_exec(test: ExecTest, root: Path, url: str) -> list[str]:
    done = subprocess.run(
        shlex.split(test.command),
        cwd=root,
        env=outside() | {"ORCHESTRA_URL": url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    found = differences(test.expect.exit_code, done.returncode, "exit_code")
    return found + [
        f"output: {text!r} not in {done.stdout!r}; {done.stderr.strip()}"
        for text in test.expect.output_contains
        if text not in done.stdout
    ]

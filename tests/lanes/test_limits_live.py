"""Limits over the whole service: two web processes, one Redis, and real callers."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import run_script
from tests.service import LiveService, running

LIMITS = """
tenants:
  - {name: acme, requests_per_minute: 240}
  - {name: free}
"""
ASK = {"taskType": "completion", "requirements": {"maxTokens": 5}}
CALLERS = 8
pytestmark = pytest.mark.timeout(120)  # the whole service starts and stops


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    home = tmp_path_factory.mktemp("limits") / "home"
    with running(home, WEB_WORKERS="2") as live:
        yield live


def command(service: LiveService, *words: str, stdin: str = "") -> str:
    result = run_script(
        *words, stdin=stdin.encode(), ORCHESTRA_HOME=str(service.home.root),
        ORCHESTRA_URL=service.url,
    )  # fmt: skip
    assert result.code == 0, result.err
    return result.out


def token(service: LiveService, tenant: str) -> str:
    said = command(service, "keys", "create", f"key-of-{tenant}", "--tenant", tenant)
    found = re.search(r"ao_\w[\w-]*_\w+", said)
    assert found is not None
    return found[0]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


def ask(service: LiveService, key: str) -> Answer:
    """Ask over a connection of its own: the kernel chooses which process takes it."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection = HTTPConnection(service.url.removeprefix("http://"), timeout=10)
    with closing(connection):
        connection.request("POST", "/api/v1/ai/select-model", json.dumps(ASK), headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, told, json.loads(answer.read()))


def test_the_fleet_as_one_keeps_a_limit(service: LiveService, tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(LIMITS)
    command(service, "policy", "apply", str(file))
    keys = {tenant: token(service, tenant) for tenant in ("acme", "free")}
    time.sleep(1.5)  # every process has the policy by then

    began = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda _: ask(service, keys["acme"]), range(400)))
    passed = [one for one in answers if one.status == 200]
    refused = [one for one in answers if one.status == 429]
    gained = 240 * (time.monotonic() - began) / 60
    assert len(passed) + len(refused) == 400
    assert 240 <= len(passed) <= 240 + gained + 1
    for one in refused:
        assert one.body["limit"] == {
            "name": "requests_per_minute", "of": "tenant", "owner": "acme", "most": 240,
        }  # fmt: skip
        assert int(one.headers["retry-after"]) >= 1

    unlimited = ask(service, keys["free"])
    assert unlimited.status == 200
    assert "ratelimit-limit" not in unlimited.headers
    shown = command(service, "limits")
    assert re.search(r"tenant acme +requests per minute +240 +2[34]\d", shown)

"""Limits over the whole service: two web processes, one Redis, and real callers."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest

from routing.policy.tokens import digest_key, mint
from tests.cli.conftest import run_script
from tests.service import LiveService, wait_replaced

LIMITS: dict[str, dict[str, int]] = {
    "acme": {"requests_per_minute": 240},
    "ample-1": {"requests_per_minute": 100_000},
    "ample-5": {"requests_per_minute": 100_000},
    "ample-20": {"requests_per_minute": 100_000},
    "ample-40": {"requests_per_minute": 100_000},
    "daily": {"requests_per_day": 50},
    "mortal": {"requests_per_day": 200},
    "free": {},
}
ASK = {"taskType": "completion", "requirements": {"maxTokens": 5}}
CALLERS = 8
pytestmark = pytest.mark.timeout(120)  # the whole service may have to start


@pytest.fixture(scope="module")
def keys(live_service: LiveService, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return a token of each tenant, once every process knows it."""
    secret = digest_key(live_service.home.secret_key())
    minted = {tenant: mint(tenant, secret) for tenant in LIMITS}
    policy = {
        "tenants": [{"name": tenant, **limits} for tenant, limits in LIMITS.items()],
        "keys": [
            {"name": f"key-of-{tenant}", "tenant": tenant, "prefix": m.prefix, "digest": m.digest}
            for tenant, m in minted.items()
        ],
    }
    file = tmp_path_factory.mktemp("limits") / "limits.json"
    file.write_text(json.dumps(policy))
    command(live_service, "policy", "apply", str(file))
    time.sleep(1.5)  # every process has the policy by then
    return {tenant: m.token for tenant, m in minted.items()}


def command(service: LiveService, *words: str, stdin: str = "") -> str:
    result = run_script(
        *words, stdin=stdin.encode(), ORCHESTRA_HOME=str(service.home.root),
        ORCHESTRA_URL=service.url,
    )  # fmt: skip
    assert result.code == 0, result.err
    return result.out


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


def burst(service: LiveService, key: str, size: int) -> Counter[int]:
    """Ask `size` times at once and return how often each status was answered."""
    with ThreadPoolExecutor(size) as pool:
        return Counter(pool.map(lambda _: ask(service, key).status, range(size)))


def test_the_fleet_as_one_keeps_a_limit(live_service: LiveService, keys: dict[str, str]) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as pool:
        answers = list(pool.map(lambda _: ask(live_service, keys["acme"]), range(400)))
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

    unlimited = ask(live_service, keys["free"])
    assert unlimited.status == 200
    assert "ratelimit-limit" not in unlimited.headers
    shown = command(live_service, "limits")
    assert re.search(r"tenant acme +requests per minute +240 +2[34]\d", shown)


@contextmanager
def busy_machine(spinners: int) -> Iterator[None]:
    """Keep more processes busy than there are cores."""
    spin = [sys.executable, "-c", "while True: pass"]
    running_ = [subprocess.Popen(spin) for _ in range(spinners)]
    try:
        yield
    finally:
        for one in running_:
            one.kill()
            one.wait()


@pytest.mark.parametrize("spinners", [0, 6])
def test_a_limit_hardly_used_refuses_no_burst(
    live_service: LiveService, keys: dict[str, str], spinners: int
) -> None:
    # A limit each, so that one rest is enough for all bursts.
    limits = {size: keys[f"ample-{size}"] for size in (1, 5, 20, 40)}
    with busy_machine(spinners):
        assert all(ask(live_service, key).status == 200 for key in limits.values())
        time.sleep(3)
        for size, key in limits.items():
            assert burst(live_service, key, size) == {200: size}


def test_a_burst_gets_all_of_a_limit_and_no_more(
    live_service: LiveService, keys: dict[str, str]
) -> None:
    assert burst(live_service, keys["daily"], 80) == {200: 50, 429: 30}


def test_a_killed_worker_lets_no_more_pass(live_service: LiveService, keys: dict[str, str]) -> None:
    def status(_: int) -> int:
        try:
            return ask(live_service, keys["mortal"]).status
        except (OSError, HTTPException):
            return 0  # its worker died with it

    with ThreadPoolExecutor(CALLERS) as pool:
        asked = pool.map(status, range(300))
        time.sleep(0.1)
        killed = live_service.child("web-0")
        killed.kill()
        told = Counter(asked)
    wait_replaced(live_service, killed, "web-0")
    assert set(told) <= {0, 200, 429}
    assert told[0] <= CALLERS
    # What it held is lost, and what it had passed but could not answer.
    assert 100 <= told[200] <= 200
    assert status(0) == 429

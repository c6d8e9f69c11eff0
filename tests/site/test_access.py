"""Where keys are required: who may go where, on the real service with two workers."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from drf_spectacular.generators import SchemaGenerator
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from orchestra_site.environ import CHECKOUT
from routing.lanes.table import BY_ROUTE
from tests import environment, service
from tests.service import LiveService
from tests.site.planted import Kept, in_flight

pytestmark = pytest.mark.timeout(120)

TOKEN = re.compile(r"ao_\w+?_[0-9A-Za-z]{43}")
STRANGER = "ao_acme_nobody-knows-this-token"
HTML = {"accept": "text/html"}
# Beyond loopback, so that keys are required without anybody's saying so.
SETTINGS = {"API_HOST": "0.0.0.0", "SECRET_KEY": "planted-secret-" * 3}  # noqa: S104
HELLO = {"taskType": "completion", "prompt": "Hello", "requirements": {"maxTokens": 2}}


@dataclass
class Guarded:
    """The service, a valid key of it, and an admin's cookies."""

    live: LiveService
    token: str
    cookies: httpx.Cookies

    @property
    def url(self) -> str:
        return self.live.url

    def manage(self, *words: str) -> str:
        env = environment.outside() | {"ORCHESTRA_HOME": str(self.live.home.root)} | SETTINGS
        done = subprocess.run(
            [sys.executable, "manage.py", "ai-orchestra", *words],
            env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=40, check=True,
        )  # fmt: skip
        return done.stdout

    def key(self, name: str, tenant: str = "acme") -> str:
        """Return the token of a new key, once the workers know it."""
        found = TOKEN.search(self.manage("keys", "create", name, "--tenant", tenant))
        assert found is not None
        deadline = time.monotonic() + 5
        while self.ask("GET", "/v1/models", found[0]) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.0)  # every worker
        return found[0]

    def ask(self, method: str, path: str, token: str = "", **more: Any) -> int:
        """Return the status of one request on a connection of its own."""
        return self.answer(method, path, token, **more).status_code

    def answer(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        headers = more.pop("headers", {})
        if token:
            headers = {**headers, "authorization": f"Bearer {token}"}
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            client.cookies = more.pop("cookies", httpx.Cookies())
            return client.request(method, path, headers=headers, **more)


def signed_in(live: LiveService) -> httpx.Cookies:
    password = (live.home.root / "admin_password").read_text().strip()
    with httpx.Client(base_url=live.url, timeout=30, trust_env=False) as client:
        client.get("/admin/login/")
        form = {
            "username": "admin",
            "password": password,
            "csrfmiddlewaretoken": client.cookies["orchestra_csrf"],
        }
        assert client.post("/admin/login/", data=form).status_code == 302
        return client.cookies


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    home = Path(tempfile.mkdtemp(prefix="orchestra-keys-"))
    try:
        with service.running(home, simulate=True, WEB_WORKERS="2", **SETTINGS) as live:
            made = Guarded(live, "", signed_in(live))
            made.manage("tenants", "create", "acme")
            made.token = made.key("ci")
            yield made
    finally:
        shutil.rmtree(home, ignore_errors=True)


PAID = """
tenants:
  - {name: rich}
  - {name: poor}
  - {name: hasty, requests_per_minute: 1}
budgets:
  - {name: rich money, scope: tenant, subject: rich, limit_usd: 100}
  - {name: poor money, scope: tenant, subject: poor, limit_usd: 0.000000001}
prices:
  - model: llama3.2:3b
    valid_from: 2020-01-01T00:00:00Z
    input_per_1k_usd: 0.001
    output_per_1k_usd: 0.001
"""


def operations() -> list[tuple[str, str]]:
    """Return every path that the schema tells of, and those of its own pages."""
    schema: Any = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    told = [(method.upper(), path) for path, found in schema["paths"].items() for method in found]
    return [*told, *(("GET", f"/api/{page}") for page in ("schema", "docs", "redoc"))]


OPEN = ("/livez", "/readyz")
PAGES = ("/", "/dashboard")
CLOSED = [operation for operation in operations() if operation[1] not in OPEN]
# What is not there tells strangers no more than what is.
CLOSED += [("GET", "/nothing"), ("GET", "/api/v1/nothing"), ("POST", "/v1/nothing")]


def role(guarded: Guarded, name: str) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {
        "anonymous": {},
        "stranger": {"token": STRANGER},
        "key": {"token": guarded.token},
        "admin": {"cookies": guarded.cookies},
    }
    return known[name]


@pytest.mark.parametrize("who", ["anonymous", "stranger", "key", "admin"])
@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_the_matrix(guarded: Guarded, who: str, method: str, path: str) -> None:
    # A session is the browsable door's: the fast lane asks for a key.
    headers = HTML if who == "admin" and (method, path) in BY_ROUTE else {}
    body: dict[str, Any] | None = {} if method == "POST" else None
    answer = guarded.answer(method, path, headers=headers, json=body, **role(guarded, who))
    if who in ("anonymous", "stranger"):
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    elif who == "admin" and method == "POST" and "nothing" not in path:
        assert answer.status_code == 403  # let in, but a session's POST needs a CSRF token
        assert "CSRF" in answer.text
    else:
        assert answer.status_code not in (401, 403)
        assert answer.status_code < 500


@pytest.mark.parametrize("path", PAGES)
def test_pages_show_where_to_sign_in(guarded: Guarded, path: str) -> None:
    for who in ("anonymous", "stranger"):
        answer = guarded.answer("GET", path, **role(guarded, who))
        assert answer.status_code == 302
        assert answer.headers["location"] == f"/admin/login/?next={path}"
    for who in ("key", "admin"):
        assert guarded.ask("GET", path, **role(guarded, who)) in (200, 302)
    assert guarded.ask("GET", "/dashboard", cookies=guarded.cookies) == 200


@pytest.mark.parametrize("path", [*OPEN, "/admin/login/", "/static/dashboard/main.js"])
def test_what_is_open(guarded: Guarded, path: str) -> None:
    assert guarded.ask("GET", path) == 200


@pytest.mark.parametrize("door", ["application/json", "text/html, application/json;q=0.1"])
def test_both_doors_refuse_alike(guarded: Guarded, door: str) -> None:
    headers = {"accept": door}
    for path in ("/v1/models", "/v1/models"):
        answer = guarded.answer("GET", path, STRANGER, headers=headers)
        assert answer.json()["error"]["code"] == "invalid_api_key"
    native = guarded.answer("POST", "/api/v1/ai/select-model", headers=headers, json={})
    assert native.headers["content-type"] == "application/problem+json"
    assert native.json()["code"] == "invalid_api_key"


def test_the_browsable_door_knows_its_caller(guarded: Guarded) -> None:
    narrow = guarded.manage(
        "keys", "create", "narrow", "--tenant", "acme", "--models", "qwen2.5:0.5b"
    )
    token = TOKEN.search(narrow)
    assert token is not None
    time.sleep(1.0)
    headers = {"accept": "application/json, text/html;q=0.1"}
    listed = guarded.answer("GET", "/v1/models", token[0], headers=headers).json()["data"]
    named = {row["id"] for row in listed if not row["id"].startswith("auto")}
    assert named == {"qwen2.5:0.5b"}


def feed(guarded: Guarded, path: str = "/ws/live", **headers: str) -> Any:
    """Return the first message of a feed, or the code that it was closed with."""
    url = guarded.url.replace("http", "ws", 1) + path
    told = {"Origin": guarded.url, **headers}
    with connect(url, additional_headers=told, proxy=None) as socket:
        try:
            return json.loads(socket.recv(timeout=10))["type"]
        except ConnectionClosed:
            return socket.close_code


def test_the_live_feed_asks_too(guarded: Guarded) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in guarded.cookies.items())
    assert feed(guarded) == 4401
    assert feed(guarded, Authorization=f"Bearer {STRANGER}") == 4401
    assert feed(guarded, Cookie="orchestra_session=made-up") == 4401
    assert feed(guarded, Authorization=f"Bearer {guarded.token}") == "snapshot"
    assert feed(guarded, Cookie=cookie) == "snapshot"


def test_a_feed_that_does_not_exist_is_closed(guarded: Guarded) -> None:
    assert feed(guarded, "/ws/nothing") == 4401
    for path in ("/ws/nothing", "/"):
        assert feed(guarded, path, Authorization=f"Bearer {guarded.token}") == 4404


def closed_with(socket: ClientConnection, limit_s: float = 10.0) -> int | None:
    """Return the code that a feed is closed with; fail where it is not within the limit."""
    deadline = time.monotonic() + limit_s
    with contextlib.suppress(ConnectionClosed):
        while time.monotonic() < deadline:
            socket.recv(timeout=limit_s)
        raise AssertionError("The feed goes on.")
    return socket.close_code


def test_a_feed_ends_with_its_key(guarded: Guarded) -> None:
    token = guarded.key("watcher")
    url = guarded.url.replace("http", "ws", 1) + "/ws/live"
    told = {"Origin": guarded.url, "Authorization": f"Bearer {token}"}
    with connect(url, additional_headers=told, proxy=None) as socket:
        assert json.loads(socket.recv(timeout=10))["type"] == "snapshot"
        disable(guarded, "apikey", "watcher")
        assert closed_with(socket) == 4401


def test_a_command_with_another_secret_makes_no_key(guarded: Guarded) -> None:
    env = environment.outside() | {"ORCHESTRA_HOME": str(guarded.live.home.root)}
    done = subprocess.run(
        [sys.executable, "manage.py", "ai-orchestra", "keys", "create", "x", "--tenant", "acme"],
        env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "SECRET_KEY differs from the running service's" in done.stderr


def disable(guarded: Guarded, noun: str, name: str) -> None:
    """Disable an object in the admin, as an operator does."""
    with httpx.Client(base_url=guarded.url, timeout=30, trust_env=False) as client:
        client.cookies = guarded.cookies
        page = client.get(f"/admin/routing/{noun}/", params={"q": name}).text
        (row,) = re.findall(r'name="_selected_action" value="(\d+)"', page)
        form = {
            "action": "disable",
            "_selected_action": row,
            "csrfmiddlewaretoken": client.cookies["orchestra_csrf"],
        }
        assert client.post(f"/admin/routing/{noun}/", data=form).status_code == 302


def test_a_revoked_key_is_refused_by_every_worker_within_a_second(guarded: Guarded) -> None:
    token = guarded.key("leaked")
    # Streams of statuses from fresh connections: both workers take them.
    assert {guarded.ask("GET", "/v1/models", token) for _ in range(20)} == {200}
    disable(guarded, "apikey", "leaked")
    revoked = time.monotonic()
    last_ok = revoked
    while time.monotonic() < revoked + 2.0:
        began = time.monotonic()
        if guarded.ask("GET", "/v1/models", token) == 200:
            last_ok = began
    assert last_ok - revoked < 1.0


def test_a_token_is_written_nowhere(guarded: Guarded) -> None:
    for path, body in (
        ("/api/v1/ai/route-request", HELLO),
        ("/api/v1/ai/route-request", {"nonsense": 1}),
        ("/v1/chat/completions", {"model": "nobody", "messages": []}),
    ):
        guarded.ask("POST", path, guarded.token, json=body)
    guarded.ask("GET", "/api/v1/health", guarded.token)
    time.sleep(2.0)  # shipped by now
    home = guarded.live.home.root
    files = [file for file in home.rglob("*") if file.is_file()]
    assert len(files) > 100
    for planted in (guarded.token.encode(), SETTINGS["SECRET_KEY"].encode()):
        assert [file for file in files if planted in file.read_bytes()] == []


def test_what_is_said_is_written_nowhere_whatever_becomes_of_it(
    guarded: Guarded, tmp_path: Path
) -> None:
    policy = tmp_path / "paid.yaml"
    policy.write_text(PAID)
    guarded.manage("policy", "apply", str(policy))
    keys = {tenant: guarded.key(f"{tenant}-ci", tenant) for tenant in ("rich", "poor", "hasty")}
    prompt, stranger = "Agent Nightingale meets at the old mill", STRANGER + "-planted"
    route = {"taskType": "completion", "prompt": prompt, "requirements": {"maxTokens": 4}}
    chat = {
        "model": "llama3.2:3b", "messages": [{"role": "user", "content": prompt}], "max_tokens": 4,
    }  # fmt: skip
    told = {}
    for who, token in (*keys.items(), ("stranger", stranger)):
        answers = [
            guarded.answer("POST", path, token, json=body, headers=headers)
            for path, asked in (("/v1/chat/completions", chat), ("/api/v1/ai/route-request", route))
            for body, headers in (
                (asked, {"idempotency-key": f"{who} planted-key-of-a-request"}),
                ({**asked, "stream": True}, {}),
                ({**asked, "stream": "no"}, {}),
            )
        ]
        told[who] = {answer.status_code for answer in answers}
    assert told["rich"] == {200, 400}
    assert 402 in told["poor"]
    assert 429 in told["hasty"]
    assert told["stranger"] == {401}
    time.sleep(2.0)  # shipped by now
    kept = Kept(guarded.live.home, guarded.manage("policy", "export"))
    assert len(in_flight(kept)) >= 2
    # It would be found: what may be known is, wherever it belongs.
    assert {"routing_budgetwindow", "routing_budget", "the exported policy"} <= set(
        kept.where("poor money")
    )
    charged = [name for name in kept.where("rich") if name.startswith("telemetry_")]
    assert "telemetry_orchestratorrequest" in charged
    assert any("policy:snapshot" in name for name in kept.where("hasty"))
    assert any(name.endswith(".inflight") for name in kept.where("rich-ci"))
    for planted in (prompt, "Nightingale", stranger, "planted-key-of-a-request", *keys.values()):
        assert kept.where(planted) == []

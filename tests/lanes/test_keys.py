"""API keys at the lanes' door: who is let in, as whom, and for which models."""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
import redis

from routing.coordination.answers import AnswerStore
from routing.engine.catalog import PolicyDocument, TenantSpec
from routing.engine.errors import Unidentified
from routing.engine.policy import Policy
from routing.lanes.doorkeeper import MOST_REMEMBERED, Doorkeeper
from routing.lanes.idempotency import Idempotency
from routing.lanes.table import LANES
from tests.cast import (
    ACME,
    ALPHA,
    BETA,
    DIGEST_KEY,
    VECTORS,
    document,
    key_for,
)
from tests.fixtures_engines import SimulatedHost
from tests.lanes.serving import serving
from tests.lanes.stage import CHAT, HEADERS, MODELS, ROUTE, SELECT, Heard, SetStage, Stage, at

TOKEN = "ao_acme_planted-token-of-the-tests"
NARROW = "ao_acme_which-may-use-beta-only"
RIVAL = "ao_rival_of-somebody-else"
OLD = "ao_acme_expired"
REVOKED = "ao_acme_revoked"
SLEEPING = "ao_sleeping_of-a-disabled-tenant"
KEYS = (
    key_for(TOKEN),
    key_for(NARROW, "narrow", allowed_models=("beta:1b",)),
    key_for(RIVAL, "rival", "rival"),
    key_for(OLD, "old", expires_at=datetime.now(UTC) - timedelta(seconds=1)),
    key_for(REVOKED, "revoked", enabled=False),
    key_for(SLEEPING, "sleeping", "sleeping"),
)
TENANTS = (ACME, TenantSpec(name="rival"), TenantSpec(name="sleeping", enabled=False))
QUESTION = {"taskType": "completion", "prompt": "Hello", "requirements": {"maxTokens": 2}}
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
CHATTING: dict[str, Any] = {"model": "auto", "messages": HELLO, "max_tokens": 2}
BODIES: dict[str, Any] = {
    SELECT: {"taskType": "completion"},
    ROUTE: QUESTION,
    CHAT: CHATTING,
    MODELS: None,
}


def policy(host: SimulatedHost, **more: Any) -> PolicyDocument:
    return document((ALPHA, BETA, VECTORS), (at(host.url),), tenants=TENANTS, keys=KEYS, **more)


@pytest.fixture
async def stage(set_stage: SetStage, host: SimulatedHost) -> Stage:
    """Where everybody needs a key."""
    made: Stage = await set_stage(policy(host), keys_required=True)
    return made


async def ask(stage: Stage, path: str, token: str = "") -> Heard:
    if BODIES[path] is None:
        return await stage.get(path, token)
    return await stage.post(path, BODIES[path], token)


def test_every_lane_is_tried() -> None:
    assert {lane.path for lane in LANES} == BODIES.keys()


@pytest.mark.parametrize("path", BODIES)
async def test_a_valid_key_is_let_in(stage: Stage, path: str) -> None:
    assert (await ask(stage, path, TOKEN)).status == 200


WRONG = {
    "none": "",
    "unknown": "ao_acme_unknown",
    "expired": OLD,
    "revoked": REVOKED,
    "of a disabled tenant": SLEEPING,
    "longer": f"{TOKEN}x",
    "shorter": TOKEN[:-1],
    "another's beginning": f"{TOKEN[:20]}something-else",
    "its digest": KEYS[0].digest,
    "its digest with the mark": f"ao_{KEYS[0].digest}",
    "its prefix": KEYS[0].prefix,
    "SQL": "ao_' OR '1'='1' --",
    "endless": "ao_" + "x" * 100_000,
    "another service's": "sk-planted",
}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("what", WRONG)
async def test_anything_else_is_not(stage: Stage, path: str, what: str) -> None:
    heard = await ask(stage, path, WRONG[what])
    assert heard.status == 401
    assert heard.headers["www-authenticate"] == "Bearer"
    told = heard.json["error"] if path in (CHAT, MODELS) else heard.json
    assert told["code"] == "invalid_api_key"
    assert stage.records() == []
    if WRONG[what]:
        assert WRONG[what].encode() not in heard.body


async def test_unknown_expired_and_revoked_read_the_same(stage: Stage) -> None:
    wrong = [token for token in WRONG.values() if token]
    bodies = {(await ask(stage, SELECT, token)).body for token in wrong}
    assert len(bodies) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([b"bearer " + TOKEN.encode()], 200),
        ([b"BEARER   " + TOKEN.encode() + b" "], 200),
        ([TOKEN.encode()], 401),
        ([b"Basic " + TOKEN.encode()], 401),
        ([b"Bearer"], 401),
        ([b""], 401),
        ([b"Bearer \xff\xfe"], 401),
        ([b"Bearer " + TOKEN.encode(), b"Bearer " + TOKEN.encode()], 401),
    ],
)
async def test_the_header_is_read_as_its_standard_says(
    stage: Stage, sent: list[bytes], status: int
) -> None:
    headers = [*HEADERS, *((b"authorization", value) for value in sent)]
    body = msgspec.json.encode(BODIES[SELECT])
    assert (await stage.send(SELECT, body, headers=headers)).status == status


async def test_a_strangers_body_is_not_read(stage: Stage) -> None:
    heard = await stage.send(SELECT, b"not JSON at all", headers=HEADERS)
    assert heard.status == 401


async def test_on_loopback_nobody_needs_a_key_but_a_wrong_one_is_told(
    set_stage: SetStage, host: SimulatedHost
) -> None:
    stage = await set_stage(policy(host))
    for token, status in (
        ("", 200),
        ("ollama", 200),  # what clients send that must send something
        ("sk-placeholder", 200),
        (TOKEN, 200),
        ("ao_acme_unknown", 401),
        (REVOKED, 401),
        (OLD, 401),
    ):
        assert (await ask(stage, SELECT, token)).status == status, token
    told = [(record.tenant, record.key) for record in stage.records()]
    assert told == [("", ""), ("", ""), ("", ""), ("acme", "ci")]


@pytest.mark.parametrize("path", [ROUTE, CHAT])
async def test_the_record_says_who_and_what_for(stage: Stage, path: str) -> None:
    tag = (
        {"metadata": {"tag": "nightly", "other": "ignored"}} if path == CHAT else {"tag": "nightly"}
    )
    assert (await stage.post(path, {**BODIES[path], **tag}, TOKEN)).status == 200
    record = stage.record()
    assert (record.tenant, record.key, record.tag) == ("acme", "ci", "nightly")


@pytest.mark.parametrize("tag", ["", "x" * 101, "a\nb", "a\n", "=1+1", "-a", "@a", "+a", "ä", 5])
async def test_a_bad_tag_is_refused_by_name(stage: Stage, tag: Any) -> None:
    native = await stage.post(ROUTE, {**QUESTION, "tag": tag}, TOKEN)
    assert (native.status, native.json["errors"][0]["pointer"]) == (400, "/tag")
    chat = await stage.post(CHAT, {**CHATTING, "metadata": {"tag": tag}}, TOKEN)
    assert (chat.status, chat.json["error"]["param"]) == (400, "metadata.tag")


async def test_a_key_is_held_to_its_models(stage: Stage) -> None:
    chosen = await stage.post(SELECT, BODIES[SELECT], TOKEN)
    assert chosen.json["selectedModel"] == "alpha:1b"
    narrow = await stage.post(SELECT, {**BODIES[SELECT], "explain": True}, NARROW)
    assert (narrow.json["selectedModel"], narrow.json["alternatives"]) == ("beta:1b", [])
    why = {row["model"]: row.get("rejected") for row in narrow.json["explanation"]}
    assert why["alpha:1b"] == "not_allowed"
    named = await stage.post(CHAT, {**CHATTING, "model": "alpha:1b"}, NARROW)
    assert (named.status, named.json["error"]["code"]) == (403, "not_allowed")
    none = await stage.post(ROUTE, {"taskType": "embedding", "prompt": "Hello"}, NARROW)
    assert (none.status, none.json["code"]) == (403, "not_allowed")
    listed = {row["id"] for row in (await stage.get(MODELS, NARROW)).json["data"]}
    assert "beta:1b" in listed
    assert not {"alpha:1b", "vectors:1b", "auto:code"} & listed


async def test_a_new_policy_revokes_at_once(stage: Stage, host: SimulatedHost) -> None:
    assert (await ask(stage, SELECT, TOKEN)).status == 200  # remembered from here on
    left = policy(host)
    stage.runtime.adopt(msgspec.structs.replace(left, keys=left.keys[1:]))
    assert (await ask(stage, SELECT, TOKEN)).status == 401
    disabled = msgspec.structs.replace(ACME, enabled=False)
    stage.runtime.adopt(msgspec.structs.replace(left, tenants=(disabled,)))
    assert (await ask(stage, SELECT, TOKEN)).status == 401
    stage.runtime.adopt(left)
    assert (await ask(stage, SELECT, TOKEN)).status == 200


def test_a_key_ends_while_it_is_remembered() -> None:
    now = [time.time()]
    ends = datetime.fromtimestamp(now[0] + 10, UTC)
    keeper = Doorkeeper(DIGEST_KEY, required=True, clock=lambda: now[0])
    known = Policy(document(tenants=TENANTS, keys=(key_for(TOKEN, expires_at=ends),)))
    header = f"Bearer {TOKEN}".encode()
    assert keeper.caller(known, header).key == keeper.caller(known, header).key == "ci"
    # A datetime holds whole microseconds, and may have been rounded up.
    now[0] += 10.001
    with pytest.raises(Unidentified):
        keeper.caller(known, header)


def test_only_valid_tokens_are_remembered_and_not_without_end() -> None:
    keeper = Doorkeeper(DIGEST_KEY, required=True)
    many = tuple(key_for(f"ao_acme_{n}", f"k{n}") for n in range(MOST_REMEMBERED + 5))
    known = Policy(document(tenants=TENANTS, keys=many))
    for number in range(20):
        with pytest.raises(Unidentified):
            keeper.caller(known, f"Bearer ao_guess_{number}".encode())
    assert keeper._digests == {}
    for number in range(MOST_REMEMBERED + 5):
        assert keeper.caller(known, f"Bearer ao_acme_{number}".encode()).key == f"k{number}"
    assert len(keeper._digests) <= MOST_REMEMBERED


def test_tokens_with_one_beginning_are_told_apart() -> None:
    """A cache keyed by the first characters let one caller in as another (CVE-2026-35030)."""
    begin = "ao_acme_" + "x" * 60
    keys = (key_for(f"{begin}1", "one"), key_for(f"{begin}2", "two"))
    known = Policy(document(tenants=TENANTS, keys=keys))
    keeper = Doorkeeper(DIGEST_KEY, required=True)
    for _ in range(2):
        assert keeper.caller(known, f"Bearer {begin}1".encode()).key == "one"
        assert keeper.caller(known, f"Bearer {begin}2".encode()).key == "two"


async def test_the_token_is_in_no_record_log_or_error(
    stage: Stage, host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    host.fail("http_error", status=500)
    heard = [
        await stage.post(path, body, TOKEN)
        for path, body in (
            (ROUTE, QUESTION),
            (CHAT, {**CHATTING, "stream": True}),
            (SELECT, {"taskType": "nonsense"}),
        )
    ]
    assert [answer.status for answer in heard] == [502, 502, 400]
    spool = b"".join(file.read_bytes() for file in stage.spool.rglob("*") if file.is_file())
    said = caplog.text.encode() + spool + b"".join(answer.body for answer in heard)
    assert b"acme" in spool
    assert TOKEN.encode() not in said
    assert KEYS[0].digest.encode() not in said


async def test_one_idempotency_key_of_two_callers_is_two_requests(
    stage: Stage, host: SimulatedHost, redis_url: str
) -> None:
    stage.runtime.idempotency = Idempotency(AnswerStore(redis_url), "s" * 32)
    first = await stage.post(ROUTE, QUESTION, TOKEN, idempotency_key="k-1")
    other = await stage.post(ROUTE, QUESTION, RIVAL, idempotency_key="k-1")
    again = await stage.post(ROUTE, QUESTION, TOKEN, idempotency_key="k-1")
    assert first.json["requestId"] != other.json["requestId"]
    assert again.body == first.body
    assert [record.tenant for record in stage.records()] == ["acme", "rival"]
    with redis.Redis.from_url(redis_url) as store:
        assert [key for key in store.scan_iter() if b"acme" in key] == []


@pytest.fixture
def url(tmp_path: Path, host: SimulatedHost) -> Iterator[str]:
    with serving(tmp_path / "spool", policy(host), keys_required=True) as served:
        yield f"{served.url}/v1"


def client(url: str, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=token, max_retries=0)


def test_openais_client_sends_its_key(url: str) -> None:
    with client(url, TOKEN) as known:
        assert known.chat.completions.create(**CHATTING).choices
        assert known.models.list().data
    with client(url, REVOKED) as stranger, pytest.raises(openai.AuthenticationError) as refused:
        stranger.chat.completions.create(**CHATTING)
    assert refused.value.code == "invalid_api_key"
    with client(url, NARROW) as narrow, pytest.raises(openai.PermissionDeniedError) as denied:
        narrow.chat.completions.create(**{**CHATTING, "model": "alpha:1b"})
    assert denied.value.code == "not_allowed"

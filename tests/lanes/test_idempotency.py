"""A POST with an Idempotency-Key is carried out once, however often it is sent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from routing.coordination import answers
from routing.coordination.answers import AnswerStore, Claim
from routing.lanes import idempotency
from routing.lanes.idempotency import Idempotency
from tests.cast import ALPHA, BETA, VECTORS, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import CHAT, HEADERS, ROUTE, SELECT, Caller, Heard, Stage, at, staged
from tests.waiting import soon

SECRET = "x" * 50
QUESTION = {"taskType": "completion", "prompt": "a planted question"}
CHATTING = {"model": "auto", "messages": [{"role": "user", "content": "a planted question"}]}


@pytest.fixture
def keyed(stage: Stage, redis_url: str) -> Stage:
    """A stage that keeps the promise of a key."""
    stage.runtime.idempotency = Idempotency(AnswerStore(redis_url), SECRET)
    return stage


@pytest.fixture
async def other(tmp_path: Path, host: SimulatedHost, redis_url: str) -> AsyncIterator[Stage]:
    """Another worker before the same Redis and the same model server."""
    async with staged(
        tmp_path / "other", document((ALPHA, BETA, VECTORS), (at(host.url),))
    ) as made:
        made.runtime.idempotency = Idempotency(AnswerStore(redis_url), SECRET)
        yield made


async def ask(stage: Stage, body: Any, key: str = "k-1", path: str = ROUTE) -> Heard:
    headers = [*HEADERS, (b"idempotency-key", key.encode("latin-1"))]
    return await stage.send(path, msgspec.json.encode(body), headers=headers)


def served(host: SimulatedHost) -> int:
    return int(host.state()["totals"]["served"])


async def test_the_same_request_is_answered_from_the_first(
    keyed: Stage, host: SimulatedHost
) -> None:
    first, again = await ask(keyed, QUESTION), await ask(keyed, QUESTION)
    assert (first.status, again.status) == (200, 200)
    assert again.body == first.body
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert served(host) == 1
    assert len(keyed.records()) == 1


async def test_another_worker_knows_the_answer(
    keyed: Stage, other: Stage, host: SimulatedHost
) -> None:
    first, again = await ask(keyed, QUESTION), await ask(other, QUESTION)
    assert again.body == first.body
    assert served(host) == 1


async def test_blanks_and_the_order_of_fields_are_no_difference(keyed: Stage) -> None:
    first = await ask(keyed, QUESTION)
    headers = [*HEADERS, (b"idempotency-key", b"k-1")]
    body = b'{ "prompt": "a planted question",\n "taskType": "completion" }'
    again = await keyed.send(ROUTE, body, headers=headers)
    assert again.body == first.body


async def test_a_key_serves_one_request_only(keyed: Stage) -> None:
    await ask(keyed, QUESTION)
    refused = await ask(keyed, {**QUESTION, "prompt": "another"})
    assert (refused.status, refused.json["code"]) == (422, "idempotency_key_reused")
    assert (await ask(keyed, {**QUESTION, "prompt": "another"}, "k-2")).status == 200


async def test_a_key_belongs_to_its_path(keyed: Stage) -> None:
    assert (await ask(keyed, QUESTION)).status == 200
    assert (await ask(keyed, CHATTING, path=CHAT)).status == 200


async def test_a_stream_is_repeated_as_it_was(keyed: Stage, host: SimulatedHost) -> None:
    body = {**CHATTING, "stream": True}
    first, again = await ask(keyed, body, path=CHAT), await ask(keyed, body, path=CHAT)
    assert first.events[-1] == "[DONE]"
    assert again.body == first.body
    assert again.headers["content-type"] == first.headers["content-type"]
    assert served(host) == 1
    assert len(keyed.records()) == 1


@pytest.mark.parametrize("stages", ["one worker", "two workers"])
async def test_of_fifty_at_once_one_is_carried_out(
    keyed: Stage, other: Stage, host: SimulatedHost, stages: str
) -> None:
    host.fail("delay", delay_ms=300)
    doors = [keyed, other] if stages == "two workers" else [keyed]
    heard = await asyncio.gather(*(ask(doors[i % len(doors)], QUESTION) for i in range(50)))
    assert {answer.status for answer in heard} == {200}
    assert len({answer.body for answer in heard}) == 1
    assert served(host) == 1


async def test_a_failure_is_not_kept(keyed: Stage, host: SimulatedHost) -> None:
    host.fail("http_error", status=500)
    assert (await ask(keyed, QUESTION)).status == 502
    host.recover()
    assert (await ask(keyed, QUESTION)).status == 200


async def test_a_broken_stream_is_not_kept(keyed: Stage, host: SimulatedHost) -> None:
    host.fail("cut", after_tokens=3)
    body = {**CHATTING, "stream": True}
    assert "error" in (await ask(keyed, body, path=CHAT)).events[-1]
    host.recover()
    keyed.runtime.state.live[0].breaker.reset()
    again = await ask(keyed, body, path=CHAT)
    assert again.events[-1] == "[DONE]"
    assert "idempotency-replayed" not in again.headers


async def test_who_left_may_come_again(keyed: Stage, host: SimulatedHost) -> None:
    host.fail("silence")
    caller, heard = Caller([msgspec.json.encode(QUESTION)]), Heard()
    headers = [*HEADERS, (b"idempotency-key", b"k-1")]
    calling = asyncio.create_task(keyed.call(ROUTE, caller, heard, headers=headers))
    await asyncio.sleep(0.3)
    caller.leave()
    await asyncio.wait_for(calling, 2)
    host.recover()
    assert (await ask(keyed, QUESTION)).status == 200


async def claimed_by_another(stage: Stage, lease_s: float) -> None:
    """Let somebody have the claim on QUESTION who never comes back."""
    promise = stage.runtime.idempotency
    assert promise is not None
    body = msgspec.json.encode(QUESTION, order="sorted")
    name = promise._hash(b"key", ROUTE.encode() + b"\0\0\0k-1").hex()
    request = promise._hash(b"request", ROUTE.encode() + b"\0" + body)
    assert isinstance(await promise._store.claim(name, request, lease_s), Claim)


async def test_a_holder_that_died_is_given_up(keyed: Stage, host: SimulatedHost) -> None:
    await claimed_by_another(keyed, 0.4)
    assert (await ask(keyed, QUESTION)).status == 200
    assert served(host) == 1


async def test_who_waits_too_long_is_told(keyed: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "JOIN_LIMIT_S", 0.2)
    await claimed_by_another(keyed, 5)
    told = await ask(keyed, QUESTION)
    assert (told.status, told.json["code"]) == (409, "idempotency_in_progress")
    assert told.headers["retry-after"] == "1"


@pytest.mark.parametrize("key", ["", " ", "two words", "é", "x" * 256, "a\tb"])
async def test_a_bad_key_is_refused(keyed: Stage, key: str) -> None:
    refused = await ask(keyed, QUESTION, key)
    assert (refused.status, refused.json["code"]) == (400, "idempotency_key_invalid")
    assert keyed.records() == []


async def test_without_redis_a_promise_is_refused_and_the_rest_goes_on(stage: Stage) -> None:
    stage.runtime.idempotency = Idempotency(AnswerStore("redis://127.0.0.1:1/0"), SECRET)
    refused = await ask(stage, QUESTION)
    assert (refused.status, refused.json["code"]) == (503, "idempotency_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await stage.post(ROUTE, QUESTION)).status == 200


async def test_what_redis_did_not_take_this_worker_answers_again(
    keyed: Stage, host: SimulatedHost
) -> None:
    """Redis goes away while a request is carried out, and another one waits for it."""
    promise = keyed.runtime.idempotency
    assert promise is not None
    host.fail("delay", delay_ms=200)
    asking = [asyncio.create_task(ask(keyed, QUESTION)) for _ in range(2)]
    await soon(lambda: keyed.runtime.state.live[0].in_flight == 1)
    working, promise._store = promise._store, AnswerStore("redis://127.0.0.1:1/0")
    first, joined = await asyncio.gather(*asking)
    again = await ask(keyed, QUESTION)
    assert first.body == joined.body == again.body
    assert (await ask(keyed, QUESTION, "k-2")).status == 503
    promise._store = working
    assert (await ask(keyed, QUESTION)).body == first.body
    assert served(host) == 1


async def test_redis_emptied_meanwhile_costs_no_second_call(
    keyed: Stage, other: Stage, host: SimulatedHost, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LEASE_S", 0.15)
    host.fail("delay", delay_ms=400)
    asking = asyncio.create_task(ask(keyed, QUESTION))
    await soon(lambda: keyed.runtime.state.live[0].in_flight == 1)
    async with AsyncRedis.from_url(redis_url) as client:
        await client.flushdb()
    await asyncio.sleep(0.2)
    joined = await ask(other, QUESTION)
    assert joined.body == (await asking).body
    assert served(host) == 1


async def test_a_native_stream_is_repeated_as_it_was(keyed: Stage, host: SimulatedHost) -> None:
    body = {**QUESTION, "stream": True}
    first, again = await ask(keyed, body), await ask(keyed, body)
    assert first.body.startswith(b"event: start")
    assert b"event: done" in first.body
    assert (again.body, again.headers["idempotency-replayed"]) == (first.body, "true")
    assert served(host) == 1


async def test_joining_a_stream_waits_for_its_end(keyed: Stage, host: SimulatedHost) -> None:
    host.fail("delay", delay_ms=200)
    body = {**CHATTING, "stream": True}
    heard = await asyncio.gather(*(ask(keyed, body, path=CHAT) for _ in range(5)))
    assert {answer.events[-1] for answer in heard} == {"[DONE]"}
    assert len({answer.body for answer in heard}) == 1
    assert served(host) == 1


async def test_nothing_readable_is_kept(keyed: Stage, redis_url: str) -> None:
    first = await ask(keyed, QUESTION, "a-planted-key")
    with redis.Redis.from_url(redis_url) as client:
        raw = [client.dump(key) for key in client.scan_iter("ai-orchestra:idempotency:*")]
        names = b" ".join(client.scan_iter("ai-orchestra:idempotency:*"))
        lives_ms = [client.pttl(key) for key in client.scan_iter("ai-orchestra:idempotency:*")]
    assert len(raw) == 1
    assert 0 < lives_ms[0] <= 600_000
    for planted in (b"planted", first.json["response"].encode()[:20]):
        assert planted not in bytes(raw[0] or b"")
        assert planted not in names


async def test_another_secret_opens_nothing(keyed: Stage, other: Stage, redis_url: str) -> None:
    other.runtime.idempotency = Idempotency(AnswerStore(redis_url), "y" * 50)
    first, second = await ask(keyed, QUESTION), await ask(other, QUESTION)
    assert first.json["requestId"] != second.json["requestId"]


async def test_an_answer_too_large_to_keep_is_not_made_twice(
    keyed: Stage, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LARGEST_BYTES", 10)
    assert (await ask(keyed, QUESTION)).status == 200
    told = await ask(keyed, QUESTION)
    assert (told.status, told.json["code"]) == (409, "idempotency_answer_lost")
    assert served(host) == 1


async def test_a_lane_that_calls_nobody_ignores_the_key(keyed: Stage) -> None:
    ids = {(await ask(keyed, {"taskType": "code"}, path=SELECT)).json["requestId"] for _ in "ab"}
    assert len(ids) == 2


async def test_a_claim_that_was_lost_replaces_nothing(redis_url: str) -> None:
    store = AnswerStore(redis_url)
    try:
        mine = await store.claim("k", b"f" * 32, 0.05)
        assert isinstance(mine, Claim)
        await asyncio.sleep(0.1)
        theirs = await store.claim("k", b"f" * 32, 5)
        assert isinstance(theirs, Claim)
        assert not await store.finish(mine, b"late", 60)
        assert not await store.renew(mine, 60)
        await store.release(mine)
        assert await store.look("k") == answers.Mark(b"f" * 32)
    finally:
        await store.close()

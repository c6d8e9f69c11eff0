"""Breakers of three workers over a real Redis: opened by one, probed by one, closed for all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from routing.coordination.breakers import reset
from routing.lanes import revival
from telemetry.redis_names import PROBE, STATE_LAST
from telemetry.state_news import decode
from tests.cast import ALPHA, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.fleet import OFFERING, Line, listening, live, states, worker
from tests.lanes.stage import CHAT, ROUTE, Stage, at
from tests.waiting import soon

ASK = {"taskType": "completion", "prompt": "Hello", "retryAttempts": 0}


@pytest.fixture
async def stages(tmp_path: Path, host: SimulatedHost, redis_url: str) -> AsyncIterator[list[Stage]]:
    policy = document((ALPHA,), (at(host.url),))
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(worker(tmp_path / str(n), policy, redis_url))
            for n in range(3)
        ]
        await listening(redis_url, 3)
        yield made


async def opened(stages: list[Stage], host: SimulatedHost, *, open_s: float = 0.3) -> None:
    """Let the first worker meet failures until every worker's breaker is open."""
    for stage in stages:
        live(stage).breaker.rules = replace(live(stage).breaker.rules, open_s=open_s)
    host.fail("http_error", status=500)
    for _ in range(5):
        await stages[0].post(ROUTE, ASK)
    await soon(lambda: states(stages) == ["open"] * 3)
    attempts(stages)


def attempts(stages: list[Stage]) -> int:
    """Return how many calls reached the upstream since the last time."""
    return sum(len(record.attempts) for stage in stages for record in stage.records())


async def everybody(stages: list[Stage], callers: int) -> list[int]:
    """Return the statuses of so many callers who come at once, spread over the workers."""
    calls = (stages[n % len(stages)].post(ROUTE, ASK) for n in range(callers))
    return [heard.status for heard in await asyncio.gather(*calls)]


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse at once where a probe leaves nobody to ask; test_revival.py has the other case."""
    monkeypatch.setattr(revival, "WAIT_S", 0.0)


async def test_an_opening_in_one_worker_opens_all(stages: list[Stage], host: SimulatedHost) -> None:
    await opened(stages, host, open_s=60)
    until = [live(s).breaker.open_until for s in stages]
    assert max(until) - min(until) < 0.05
    heard = await stages[2].post(ROUTE, ASK)
    assert heard.status == 503
    assert 50 < int(heard.headers["retry-after"]) <= 60


async def test_one_of_fifty_callers_probes_and_a_success_closes_everywhere(
    stages: list[Stage], host: SimulatedHost
) -> None:
    await opened(stages, host)
    host.fail("delay", delay_ms=300)
    await asyncio.sleep(0.35)
    statuses = await everybody(stages, 50)
    assert sorted(statuses) == [200, *[503] * 49]
    assert attempts(stages) == 1
    await soon(lambda: states(stages) == ["closed"] * 3)
    host.recover()
    assert set(await everybody(stages, 6)) == {200}
    assert all(stage.quiet() for stage in stages)


async def test_who_is_refused_for_anothers_probe_is_told_when_to_come_back(
    stages: list[Stage], host: SimulatedHost, redis_url: str
) -> None:
    await opened(stages, host)
    host.fail("delay", delay_ms=1000)
    await asyncio.sleep(0.35)
    probing = asyncio.create_task(stages[0].post(ROUTE, ASK))
    with redis.Redis.from_url(redis_url) as client:
        await soon(lambda: bool(client.exists(PROBE + OFFERING)))
    for stage in stages:
        heard = await stage.post(ROUTE, ASK)
        assert (heard.status, heard.headers["retry-after"]) == (503, "1")
    assert (await probing).status == 200


async def test_a_failed_probe_opens_for_longer_everywhere(
    stages: list[Stage], host: SimulatedHost
) -> None:
    await opened(stages, host)
    await asyncio.sleep(0.35)
    statuses = await everybody(stages, 50)
    assert attempts(stages) == 1
    assert 200 not in statuses
    await soon(lambda: [live(s).breaker.openings for s in stages] == [2] * 3)
    remaining = [live(s).breaker.open_until - s.runtime.clock() for s in stages]
    assert all(0 < left <= 0.6 for left in remaining)
    assert states(stages) == ["open"] * 3


async def test_a_worker_that_missed_the_news_hears_them_when_it_claims(
    stages: list[Stage], host: SimulatedHost
) -> None:
    await opened(stages, host, open_s=60)
    deaf = live(stages[1]).breaker
    deaf.open_until = stages[1].runtime.clock() - 1
    assert (await stages[1].post(ROUTE, ASK)).status == 503
    assert attempts(stages) == 0
    assert deaf.open_until > stages[1].runtime.clock() + 50


async def test_a_caller_who_leaves_gives_the_probe_back(
    stages: list[Stage], host: SimulatedHost, redis_url: str
) -> None:
    await opened(stages, host)
    host.fail("delay", delay_ms=5000)
    await asyncio.sleep(0.35)
    probing = asyncio.create_task(stages[0].post(ROUTE, ASK))
    with redis.Redis.from_url(redis_url) as client:
        await soon(lambda: client.pttl(PROBE + OFFERING) > 100_000)
        probing.cancel()
        await soon(lambda: not client.exists(PROBE + OFFERING))
    host.recover()
    assert (await stages[1].post(ROUTE, ASK)).status == 200


async def test_a_probe_of_a_worker_that_died_is_free_when_its_claim_expires(
    stages: list[Stage], host: SimulatedHost, redis_url: str
) -> None:
    await opened(stages, host)
    await asyncio.sleep(0.35)
    host.recover()
    with redis.Redis.from_url(redis_url) as client:
        client.set(PROBE + OFFERING, "web-0@gone:1:00000000/1", px=400)
    assert (await stages[0].post(ROUTE, ASK)).status == 503
    await asyncio.sleep(0.45)
    assert (await stages[0].post(ROUTE, ASK)).status == 200


async def test_a_reset_closes_every_worker_within_a_second(
    stages: list[Stage], host: SimulatedHost, redis_url: str
) -> None:
    await opened(stages, host, open_s=60)
    host.recover()
    with redis.Redis.from_url(redis_url) as client:
        client.set(PROBE + OFFERING, "somebody")
        reset(client, [OFFERING], "operator")
        assert not client.exists(PROBE + OFFERING)
    await soon(lambda: states(stages) == ["closed"] * 3, 1.0)
    assert set(await everybody(stages, 3)) == {200}


async def test_a_reset_holds_although_the_clock_of_redis_went_back(
    stages: list[Stage], host: SimulatedHost, redis_url: str
) -> None:
    ahead = stages[0].runtime.fleet_time() + 3600
    for stage in stages:
        live(stage).breaker.generation = ahead
    await opened(stages, host, open_s=60)
    with redis.Redis.from_url(redis_url) as client:
        reset(client, [OFFERING], "operator")
    await soon(lambda: states(stages) == ["closed"] * 3, 1.0)


async def test_a_late_opening_does_not_undo_a_reset(
    stages: list[Stage], host: SimulatedHost, redis_url: str
) -> None:
    await opened(stages, host, open_s=60)
    with redis.Redis.from_url(redis_url) as client:
        late = decode(client.hget(STATE_LAST, f"breaker:{OFFERING}") or b"")
        reset(client, [OFFERING], "operator")
        await soon(lambda: states(stages) == ["closed"] * 3)
        stages[0].runtime.breaker_news(late)
        await asyncio.sleep(0.2)
        assert states(stages) == ["closed"] * 3
        assert decode(client.hget(STATE_LAST, f"breaker:{OFFERING}") or b"").state == "closed"


async def test_a_new_worker_begins_with_what_the_others_know(
    stages: list[Stage], host: SimulatedHost, redis_url: str, tmp_path: Path
) -> None:
    await opened(stages, host, open_s=60)
    policy = document((ALPHA,), (at(host.url),))
    async with worker(tmp_path / "late", policy, redis_url) as late:
        await soon(lambda: states([late]) == ["open"])
        left = live(late).breaker.open_until - late.runtime.clock()
        assert 50 < left <= 60


async def test_clocks_of_nodes_may_differ(
    stages: list[Stage], host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    await opened(stages, host, open_s=60)
    assert all(50 < live(s).breaker.open_until - s.runtime.clock() <= 60 for s in stages)


async def test_without_redis_each_worker_probes_alone_and_tells_when_it_is_back(
    tmp_path: Path, host: SimulatedHost, redis_url: str
) -> None:
    line, policy = Line(tmp_path / "redis.sock", redis_url), document((ALPHA,), (at(host.url),))
    await line.mend()
    async with (
        aclosing(line),
        worker(tmp_path / "0", policy, line.url) as one,
        worker(tmp_path / "1", policy, line.url) as two,
    ):
        stages = [one, two]
        await listening(redis_url, 2)
        await line.cut()
        for stage in stages:
            live(stage).breaker.rules = replace(live(stage).breaker.rules, open_s=0.2)
            host.fail("http_error", status=500)
            for _ in range(5):
                await stage.post(ROUTE, ASK)
        attempts(stages)
        assert states(stages) == ["open"] * 2
        host.fail("delay", delay_ms=300)
        await asyncio.sleep(0.25)
        assert sorted(await everybody(stages, 20)) == [200, 200, *[503] * 18]
        assert attempts(stages) == 2
        assert states(stages) == ["closed"] * 2
        await line.mend()
        await soon(lambda: live(one).breaker.generation == live(two).breaker.generation, 5)
        await line.cut()
        host.fail("http_error", status=500)
        for _ in range(5):
            await one.post(ROUTE, ASK)
        assert states(stages) == ["open", "closed"]
        live(one).breaker.open_until += 60
        one.runtime.breaker_changed(live(one))
        await line.mend()
        await soon(lambda: states(stages) == ["open"] * 2, 5)


async def test_openai_callers_are_told_when_to_come_back_too(
    stages: list[Stage], host: SimulatedHost
) -> None:
    await opened(stages, host, open_s=60)
    hello = [{"role": "user", "content": "Hello"}]
    for stream in (False, True):
        asked = {"model": "auto", "messages": hello, "stream": stream}
        heard = await stages[2].post(CHAT, asked)
        assert heard.status == 503
        assert 50 < int(heard.headers["retry-after"]) <= 60

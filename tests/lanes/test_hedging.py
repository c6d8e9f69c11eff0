"""A slow attempt gets a second one beside it, within the percent that its profile allows."""

import asyncio
from typing import Any

import pytest
from msgspec.json import encode
from msgspec.structs import replace

from routing.coordination.slots import SlotKeeper
from routing.engine.catalog import DEFAULT_PROFILES
from routing.engine.durations import Durations
from routing.engine.need import Need
from routing.engine.tokens import prompt_bound
from telemetry import waiting
from tests.cast import ALPHA, BETA, CATALOGUE, document, priced
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.stage import CHAT, ROUTE, Caller, Heard, SetStage, Stage, at
from tests.waiting import soon

ASK = {"taskType": "completion", "prompt": "hi", "requirements": {"maxTokens": 8}}
TALK = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
EVERY_WAY = pytest.mark.parametrize(
    ("path", "body"),
    [
        (ROUTE, ASK),
        (ROUTE, {**ASK, "stream": True}),
        (CHAT, TALK),
        (CHAT, {**TALK, "stream": True}),
        (CHAT, {**TALK, "stream": True, "commit": "complete"}),
    ],
    ids=["route", "route-stream", "chat", "chat-stream", "chat-held"],
)
USUAL_MS = 30.0


class Pair:
    """A stage in front of two simulators; the first is chosen, and both are usually fast."""

    def __init__(self, stage: Stage, first: SimulatedHost, second: SimulatedHost) -> None:
        self.stage, self.first, self.second = stage, first, second
        for live in stage.runtime.state.live:
            for _ in range(20):
                live.answer_times.add(USUAL_MS)
                live.first_token_times.add(USUAL_MS)

    def attempts(self) -> list[tuple[str, str]]:
        return [(a.endpoint, a.error_type) for a in self.stage.record().attempts]

    def served(self) -> list[int]:
        return [host.state()["totals"]["served"] for host in (self.first, self.second)]


@pytest.fixture
def pair_of(set_stage: SetStage, start_simulator: StartSimulator) -> Any:
    async def start(percent: float = 100, *models: Any) -> Pair:
        hosts = [start_simulator(CATALOGUE, instant=True) for _ in "ab"]
        places = tuple(at(host.url, name) for host, name in zip(hosts, "ab", strict=True))
        profile = replace(DEFAULT_PROFILES[1], hedge_percent=percent)
        policy = document(models or (ALPHA,), places, profiles=(profile,))
        return Pair(await set_stage(policy), *hosts)

    return start


@pytest.fixture
async def pair(pair_of: Any) -> Pair:
    """Every request may have a second attempt."""
    made: Pair = await pair_of()
    return made


@EVERY_WAY
async def test_a_silent_one_is_ended_and_the_second_is_heard(
    pair: Pair, path: str, body: Any
) -> None:
    pair.first.fail("silence")
    async with asyncio.timeout(2):
        heard = await pair.stage.post(path, body)
    assert heard.status == 200
    assert b"error" not in heard.body
    await soon(lambda: pair.first.sim.cancelled == 1)
    record = pair.stage.record()
    assert [(a.endpoint, a.error_type) for a in record.attempts] == [("a", "hedge_lost"), ("b", "")]
    assert record.attempts[0].duration_ms >= USUAL_MS
    assert (record.endpoint, record.fallback_used, record.degraded) == ("b", True, False)
    assert record.reason == "alpha:1b@a was slow; alpha:1b@b answered first"
    assert pair.stage.quiet()


async def test_losing_is_no_fault(pair: Pair) -> None:
    pair.first.fail("silence")
    for _ in range(8):
        await pair.stage.post(ROUTE, ASK)
    lost = pair.stage.runtime.state.offerings["alpha:1b@a"]
    assert (lost.breaker.state, lost.success_rate, lost.in_flight) == ("closed", 1.0, 0)


@EVERY_WAY
async def test_the_first_is_heard_where_the_second_is_slower(
    pair: Pair, path: str, body: Any
) -> None:
    pair.first.fail("delay", delay_ms=150)
    pair.second.fail("silence")
    heard = await pair.stage.post(path, body)
    assert heard.status == 200
    await soon(lambda: pair.second.sim.cancelled == 1)
    record = pair.stage.record()
    assert [(a.endpoint, a.error_type) for a in record.attempts] == [("b", "hedge_lost"), ("a", "")]
    assert (record.endpoint, record.fallback_used) == ("a", False)
    assert pair.stage.quiet()


@EVERY_WAY
async def test_a_fast_one_is_alone(pair: Pair, path: str, body: Any) -> None:
    for live in pair.stage.runtime.state.live:
        for _ in range(200):
            live.answer_times.add(5000.0)
            live.first_token_times.add(5000.0)
    await pair.stage.post(path, body)
    assert (pair.attempts(), pair.served()) == ([("a", "")], [1, 0])


@EVERY_WAY
async def test_what_is_usual_is_what_callers_wait(pair: Pair, path: str, body: Any) -> None:
    """An engine may call all of it loading, even of a model that is loaded."""
    pair.first.fail("delay", delay_ms=15)
    live = pair.stage.runtime.state.offerings["alpha:1b@a"]
    live.answer_times, live.first_token_times = Durations(), Durations()
    for _ in range(20):
        await pair.stage.post(path, body)
    whole = not body.get("stream") or body.get("commit") == "complete"
    slow_ms = (live.answer_times if whole else live.first_token_times).slow_ms()
    assert slow_ms is not None
    assert slow_ms >= 15


async def test_a_cold_start_is_not_usual(set_stage: SetStage, start_simulator: Any) -> None:
    host = start_simulator(CATALOGUE, instant=True)
    stage = await set_stage(document((ALPHA,), (at(host.url, host="local"),)))
    live = stage.runtime.state.live[0]
    assert not live.loaded
    for body in (ASK, ASK, {**ASK, "stream": True}):
        await stage.post(ROUTE, body)
    assert (len(live.answer_times._kept), len(live.first_token_times._kept)) == (1, 1)


async def test_it_is_off_unless_a_profile_says_so(pair_of: Any) -> None:
    pair = await pair_of(0)
    pair.first.fail("delay", delay_ms=200)
    await pair.stage.post(ROUTE, ASK)
    assert pair.attempts() == [("a", "")]


async def test_no_more_of_them_than_their_percent(pair_of: Any) -> None:
    pair = await pair_of(10)
    pair.first.fail("delay", delay_ms=100)
    await asyncio.gather(*(pair.stage.post(ROUTE, ASK) for _ in range(39)))
    lost = [a for r in pair.stage.records() for a in r.attempts if a.error_type == "hedge_lost"]
    assert len(lost) == 3


async def test_nobody_is_slow_before_it_is_known_what_is_usual(
    set_stage: SetStage, start_simulator: StartSimulator
) -> None:
    hosts = [start_simulator(CATALOGUE, instant=True) for _ in "ab"]
    profile = replace(DEFAULT_PROFILES[1], hedge_percent=100)
    places = tuple(at(host.url, name) for host, name in zip(hosts, "ab", strict=True))
    stage = await set_stage(document((ALPHA,), places, profiles=(profile,)))
    for _ in range(20):
        await stage.post(ROUTE, ASK)
    hosts[0].fail("delay", delay_ms=200)
    stage.records()
    await stage.post(ROUTE, ASK)
    assert [a.error_type for a in stage.record().attempts] == ["hedge_lost", ""]
    # What the loser took is kept, or ever shorter times would be slow.
    assert len(stage.runtime.state.offerings["alpha:1b@a"].answer_times._kept) == 21


async def test_nobody_is_waited_for(pair: Pair) -> None:
    """Every place of the second endpoint is taken."""
    runtime = pair.stage.runtime
    candidate = runtime.policy.by_id["alpha:1b@b"]
    live = runtime.state.offerings[candidate.id]
    taken = [runtime.gate.try_enter(candidate, live, Need(task="completion")) for _ in range(4)]
    assert runtime.gate.try_enter(candidate, live, Need(task="completion")) is None
    pair.first.fail("delay", delay_ms=200)
    told = await pair.stage.post(ROUTE, ASK)
    assert "x-orchestra-queue-position" not in told.headers
    assert pair.attempts() == [("a", "")]
    assert runtime.hedges["normal"].spend()
    # Who had no place for a second attempt may still stand in for a failed one.
    late = [{"kind": "delay", "delay_ms": 100}, {"kind": "html"}]
    pair.first.http.put("/_sim/faults", json={"faults": late}).raise_for_status()
    asking = asyncio.create_task(pair.stage.post(ROUTE, ASK))
    await soon(lambda: live.endpoint.waiting == 1)
    for passed in taken:
        assert passed is not None
        passed.leave()
    assert (await asking).status == 200
    assert pair.attempts()[-1] == ("b", "")


async def test_who_allows_one_attempt_gets_one(pair: Pair) -> None:
    pair.first.fail("delay", delay_ms=200)
    await pair.stage.post(ROUTE, {**ASK, "retryAttempts": 0})
    assert pair.attempts() == [("a", "")]


async def test_the_second_goes_on_when_the_first_fails(pair: Pair) -> None:
    pair.second.fail("delay", delay_ms=200)
    late = [{"kind": "delay", "delay_ms": 100}, {"kind": "http_error", "status": 500}]
    pair.first.http.put("/_sim/faults", json={"faults": late}).raise_for_status()
    assert (await pair.stage.post(ROUTE, ASK)).status == 200
    assert pair.attempts() == [("a", "upstream_fault"), ("b", "")]


async def test_the_first_goes_on_when_the_second_fails(pair: Pair) -> None:
    pair.first.fail("delay", delay_ms=200)
    pair.second.fail("http_error", status=500)
    assert (await pair.stage.post(ROUTE, ASK)).json["endpoint"] == "a"
    assert pair.attempts() == [("b", "upstream_fault"), ("a", "")]


async def test_both_together_stay_within_the_cost_limit(pair_of: Any) -> None:
    pair = await pair_of(100, priced(ALPHA, "0.001"))
    pair.first.fail("delay", delay_ms=150)
    one_usd = (prompt_bound(len(ASK["prompt"])) + 8) * 1e-6
    wanted = {"maxTokens": 8, "costLimit": one_usd * 1.5}
    assert (await pair.stage.post(ROUTE, {**ASK, "requirements": wanted})).status == 200
    assert pair.attempts() == [("a", "")]


async def test_when_both_fail_the_others_are_asked(pair_of: Any) -> None:
    pair = await pair_of(100, ALPHA, BETA)
    late = [
        {"kind": "delay", "delay_ms": 100, "model": "alpha:1b"},
        {"kind": "html", "model": "alpha:1b"},
    ]
    for host in (pair.first, pair.second):
        host.http.put("/_sim/faults", json={"faults": late}).raise_for_status()
    told = (await pair.stage.post(ROUTE, ASK)).json
    assert told["selectedModel"] == "beta:1b"
    tried = pair.attempts()
    assert [where for where, _ in tried] == ["a", "b", "a"]


@EVERY_WAY
async def test_a_caller_who_leaves_ends_both(pair: Pair, path: str, body: Any) -> None:
    pair.first.fail("silence")
    pair.second.fail("silence")
    caller = Caller([encode(body)])
    task = asyncio.create_task(pair.stage.call(path, caller, Heard()))
    await soon(lambda: sum(o.in_flight for o in pair.stage.runtime.state.live) == 2)
    caller.leave()
    await asyncio.wait_for(task, 1.0)
    assert pair.stage.quiet()
    await soon(lambda: pair.first.sim.cancelled + pair.second.sim.cancelled == 2)
    assert pair.stage.record().status == 499


async def test_a_whole_answer_that_lost_is_billed_at_its_most(pair_of: Any) -> None:
    pair = await pair_of(100, priced(ALPHA, "0.5"))
    pair.first.fail("silence")
    told = (await pair.stage.post(ROUTE, {**ASK, "requirements": {"maxTokens": 8}})).json
    record = pair.stage.record()
    answer = record.prompt_tokens + record.completion_tokens
    asked = len(ASK["prompt"]) // 4 + 1
    assert record.cost_nusd == (answer + asked + 8) * 500_000
    assert told["costUsd"] == pytest.approx(record.cost_nusd / 1e9)


async def test_a_stream_that_lost_is_billed_by_what_came(pair_of: Any) -> None:
    pair = await pair_of(100, priced(ALPHA, "0.5"))
    pair.first.fail("silence")
    await pair.stage.post(ROUTE, {**ASK, "stream": True})
    record = pair.stage.record()
    asked = len(ASK["prompt"]) // 4 + 1
    assert record.cost_nusd == (record.prompt_tokens + record.completion_tokens + asked) * 500_000


async def test_an_unknown_price_is_never_taken_for_none(pair_of: Any) -> None:
    pair = await pair_of(100, priced(ALPHA, None))
    pair.first.fail("silence")
    assert "costUsd" not in (await pair.stage.post(ROUTE, ASK)).json
    assert pair.stage.record().cost_known is False


async def test_an_idle_endpoint_is_asked_though_its_places_lapsed(
    pair: Pair, redis_url: str
) -> None:
    """Workers that share places hold none where nothing was asked for a while."""
    runtime = pair.stage.runtime
    keeper = SlotKeeper(redis_url, "w")
    runtime.gate.share(keeper)
    runtime.gate.ways.clear()
    runtime.gate.bind(runtime.policy, runtime.state)
    tasks = [asyncio.create_task(job()) for job in (keeper.run, keeper.listen)]
    try:
        idle = runtime.state.endpoint("b")
        idle.free_slots = 0
        first = await pair.stage.post(ROUTE, ASK)
        assert first.status == 200
        # Its place was a round trip away: nobody was before it.
        assert "x-orchestra-queue-position" not in first.headers
        assert "queuedMs" not in first.json["metrics"]
        pair.stage.records()
        runtime.gate.ways["b"].slots.leased = 0
        pair.first.fail("silence")
        assert (await pair.stage.post(ROUTE, ASK)).status == 200
    finally:
        await waiting.end(tasks)
    assert pair.attempts() == [("a", "hedge_lost"), ("b", "")]


async def test_waiting_for_a_place_is_not_slowness(pair: Pair) -> None:
    runtime = pair.stage.runtime
    candidate = runtime.policy.by_id["alpha:1b@a"]
    live = runtime.state.offerings[candidate.id]
    taken = [runtime.gate.try_enter(candidate, live, Need(task="completion")) for _ in range(4)]
    live.endpoint.wait_ms = 0.0  # so that it is chosen all the same
    asking = asyncio.create_task(pair.stage.post(ROUTE, ASK))
    await soon(lambda: live.endpoint.waiting == 1)
    await asyncio.sleep(5 * USUAL_MS / 1000)
    for passed in taken:
        assert passed is not None
        passed.leave()
    assert (await asking).status == 200
    assert pair.attempts() == [("a", "")]


async def test_a_policy_that_comes_meanwhile_disturbs_nothing(pair: Pair) -> None:
    runtime = pair.stage.runtime
    pair.first.fail("delay", delay_ms=200)
    asking = asyncio.create_task(pair.stage.post(ROUTE, ASK))
    await soon(lambda: runtime.state.live[0].in_flight == 1)
    spec = runtime.policy.document
    runtime.adopt(replace(spec, offerings=spec.offerings[:1], version=2))
    assert (await asking).status == 200
    assert pair.attempts() == [("a", "")]

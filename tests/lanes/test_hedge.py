"""A slow answer is raced by a second one; who is slower is cancelled and counted."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from routing.engine.catalog import DEFAULT_PROFILES, ModelSpec
from tests.cast import ALPHA, CATALOGUE, VECTORS, document, priced
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.stage import CHAT, ROUTE, SetStage, Stage, at
from tests.waiting import soon

ASK = {"taskType": "completion", "prompt": "Hello"}
CHATTING = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
PRICED = priced(ALPHA, "0.001")


class Two:
    """One model at two endpoints, `a` chosen first, and the stage before them."""

    def __init__(self, stage: Stage, a: SimulatedHost, b: SimulatedHost) -> None:
        self.stage, self.a, self.b = stage, a, b

    def know(self, usual_ms: float) -> None:
        """Let both have answered so often that their times are known."""
        for live in self.stage.runtime.state.live:
            for _ in range(30):
                live.first_ms.add(usual_ms)
                live.whole_ms.add(usual_ms)

    def attempts(self) -> list[tuple[str, str]]:
        return [(a.endpoint, a.error_type) for a in self.stage.record().attempts]


@pytest.fixture
async def race(set_stage: SetStage, start_simulator: StartSimulator) -> Any:
    """Return a function that sets the stage: await race(percent=…, model=…)."""

    async def start(percent: float = 100, model: ModelSpec = ALPHA) -> Two:
        a, b = (start_simulator(CATALOGUE, instant=True) for _ in "ab")
        profiles = [replace(p, hedge_percent=percent) for p in DEFAULT_PROFILES]
        stage = await set_stage(
            document((model, VECTORS), (at(a.url, "a"), at(b.url, "b")), profiles=profiles)
        )
        return Two(stage, a, b)

    return start


async def test_a_slow_whole_answer_is_overtaken(race: Any) -> None:
    two: Two = await race()
    two.know(20)
    two.a.fail("silence")
    told = (await two.stage.post(ROUTE, ASK)).json
    assert (told["endpoint"], told["fallbackUsed"]) == ("b", True)
    assert "was slow; " in told["reason"]
    assert sorted(two.attempts()) == [("a", "hedge_lost"), ("b", "")]
    await soon(lambda: two.a.state()["totals"] is not None and two.a.sim.cancelled == 1, 1)
    assert two.stage.quiet()


async def test_a_slow_stream_is_overtaken_before_its_first_token(race: Any) -> None:
    two: Two = await race()
    two.know(20)
    two.a.fail("silence")
    heard = await two.stage.post(CHAT, CHATTING)
    assert heard.events[-1] == "[DONE]"
    assert heard.headers["x-orchestra-endpoint"] == "b"
    assert sorted(two.attempts()) == [("a", "hedge_lost"), ("b", "")]
    assert two.stage.quiet()


async def test_the_first_one_may_still_win(race: Any) -> None:
    two: Two = await race()
    two.know(20)
    two.a.fail("delay", delay_ms=150)
    two.b.fail("silence")
    told = (await two.stage.post(ROUTE, ASK)).json
    assert (told["endpoint"], told["fallbackUsed"]) == ("a", False)
    assert sorted(two.attempts()) == [("a", ""), ("b", "hedge_lost")]
    assert two.stage.quiet()


async def test_a_second_one_that_fails_does_not_end_the_race(race: Any) -> None:
    two: Two = await race()
    two.know(20)
    two.a.fail("delay", delay_ms=300)
    two.b.fail("http_error", status=500)
    assert (await two.stage.post(ROUTE, ASK)).json["endpoint"] == "a"
    assert sorted(two.attempts()) == [("a", ""), ("b", "upstream_fault")]


async def test_the_cost_of_the_loser_is_counted(race: Any) -> None:
    two: Two = await race(model=PRICED)
    two.know(20)
    two.a.fail("silence")
    told = (await two.stage.post(ROUTE, ASK)).json
    metrics, record = told["metrics"], two.stage.record()
    winner_nusd = 1000 * (metrics["promptTokens"] + metrics["tokensGenerated"])
    lost = next(a for a in record.attempts if a.error_type == "hedge_lost")
    loser_nusd = 1000 * (metrics["promptTokens"] + lost.completion_tokens)
    assert record.cost_nusd == winner_nusd + loser_nusd
    assert told["costUsd"] == pytest.approx(float(Decimal(record.cost_nusd) / 10**9))


async def test_the_loser_is_not_held_against_its_endpoint(race: Any) -> None:
    two: Two = await race()
    two.know(20)
    two.a.fail("silence")
    for _ in range(6):
        await two.stage.post(ROUTE, ASK)
    live = two.stage.runtime.state.offerings["alpha:1b@a"]
    assert (live.breaker.state, live.success_rate) == ("closed", 1.0)


@pytest.mark.parametrize("why", ["off", "budget", "unknown", "full"])
async def test_nobody_is_asked_twice_without_reason(race: Any, why: str) -> None:
    two: Two = await race(percent={"off": 0, "budget": 1}.get(why, 100))
    if why != "unknown":
        two.know(20)
    if why == "full":
        two.stage.runtime.state.endpoint("b").free_slots = 0
    two.a.fail("delay", delay_ms=100)
    assert (await two.stage.post(ROUTE, ASK)).json["endpoint"] == "a"
    assert two.attempts() == [("a", "")]


async def test_both_together_stay_within_the_cost_limit(race: Any) -> None:
    two: Two = await race(model=PRICED)
    two.know(20)
    two.a.fail("delay", delay_ms=100)
    bound_usd = (2 + 10) * 1e-6
    wanted = {"maxTokens": 10, "costLimit": bound_usd * 1.5}
    assert (await two.stage.post(ROUTE, {**ASK, "requirements": wanted})).status == 200
    assert two.attempts() == [("a", "")]


async def test_a_caller_who_leaves_ends_both(race: Any) -> None:
    two: Two = await race()
    two.know(20)
    two.a.fail("silence")
    two.b.fail("silence")
    calling = asyncio.create_task(two.stage.post(ROUTE, ASK))
    await soon(lambda: sum(live.in_flight for live in two.stage.runtime.state.live) == 2, 2)
    calling.cancel()
    await asyncio.wait([calling])
    await soon(two.stage.quiet, 1)
    assert two.attempts() == []

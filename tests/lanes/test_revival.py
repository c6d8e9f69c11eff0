"""When every breaker is open, requests find out who is well again instead of being refused."""

import asyncio
from typing import Any

import pytest

from routing.engine import breaker as breakers
from routing.engine.breaker import Breaker, BreakerState
from routing.engine.need import Need
from routing.lanes import revival
from tests.cast import ALPHA, BETA, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import CHAT, ROUTE, SELECT, SetStage, Stage, at

ASK = {"taskType": "completion", "prompt": "Hello", "retryAttempts": 3}
STREAM = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def opened(stage: Stage, *, ago_s: float = 2.0, reason: str = "upstream_fault") -> None:
    """Have every breaker been open for a while, with a minute to go."""
    now = stage.runtime.clock()
    for live in stage.runtime.state.live:
        breaker = live.breaker
        for _ in range(5):
            breaker.fail(now - ago_s, began=now - ago_s)
        breaker.open_until = now + 60
        breaker.reason = reason


@pytest.fixture
async def stage(set_stage: SetStage, host: SimulatedHost) -> Stage:
    made: Stage = await set_stage(document((ALPHA, BETA), (at(host.url),)))
    return made


@pytest.mark.parametrize(("path", "body"), [(ROUTE, ASK), (CHAT, STREAM)])
async def test_who_is_well_again_answers_although_every_breaker_is_open(
    stage: Stage, path: str, body: dict[str, Any]
) -> None:
    opened(stage)
    heard = await stage.post(path, body)
    assert heard.status == 200
    assert b"error" not in heard.body
    assert BreakerState.CLOSED in {live.breaker.state for live in stage.runtime.state.live}


async def test_many_callers_wait_for_one_probe(stage: Stage, host: SimulatedHost) -> None:
    host.fail("delay", delay_ms=300)
    opened(stage)
    heard = await asyncio.gather(*(stage.post(ROUTE, ASK) for _ in range(30)))
    assert {one.status for one in heard} == {200}
    # Two models, a probe each; whoever waited was not one.
    firsts = [record.attempts[0] for record in stage.records()]
    assert all(not attempt.error_type for attempt in firsts)


async def test_while_nobody_is_well_few_calls_are_made(stage: Stage, host: SimulatedHost) -> None:
    host.fail("http_error", status=500)
    opened(stage)
    heard = await asyncio.gather(*(stage.post(ROUTE, ASK) for _ in range(30)))
    assert {one.status for one in heard} <= {502, 503}
    called = [attempt for record in stage.records() for attempt in record.attempts]
    assert len(called) <= 4, "a probe of each model, and its repetition"
    openings = {live.breaker.openings for live in stage.runtime.state.live}
    assert openings == {1}, "hastened, it opens for no longer than before"


async def test_nobody_waits_for_a_probe_beyond_the_deadline(stage: Stage) -> None:
    opened(stage)
    runtime = stage.runtime
    for live in runtime.state.live:
        live.breaker.open_until = 0.0
        live.breaker.hold(runtime.clock() + 60)  # another worker probes
    began = runtime.clock()
    assert not await revival.revived(runtime, Need(task="completion"), began + 0.2)
    assert 0.2 <= runtime.clock() - began < 1.0


@pytest.mark.parametrize(("ago_s", "reason"), [(0.2, "upstream_fault"), (5.0, "upstream_busy")])
async def test_what_just_opened_or_named_its_time_is_left_alone(
    stage: Stage, ago_s: float, reason: str
) -> None:
    opened(stage, ago_s=ago_s, reason=reason)
    heard = await stage.post(ROUTE, ASK)
    assert heard.status == 503
    assert int(heard.headers["retry-after"]) > 50
    assert not stage.record().attempts


async def test_a_mere_choice_probes_nothing(stage: Stage) -> None:
    opened(stage)
    assert (await stage.post(SELECT, {"taskType": "completion"})).status == 503


async def test_a_request_whose_attempts_failed_goes_on_with_who_was_shut_out(
    stage: Stage, host: SimulatedHost
) -> None:
    host.fail("http_error", model="alpha:1b", status=500)
    opened(stage)
    alpha = next(live for live in stage.runtime.state.live if live.id.startswith("alpha"))
    alpha.breaker.reset()
    heard = await stage.post(ROUTE, ASK)
    assert (heard.status, heard.json["selectedModel"]) == (200, "beta:1b")


def test_a_breaker_is_hastened_only_after_a_second_and_the_named_time() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.fail(10.0, began=10.0)
    assert not breaker.hasten(10.0 + breakers.LEAST_OPEN_S / 2)
    assert breaker.hasten(10.0 + breakers.LEAST_OPEN_S)
    assert breaker.allows(10.0 + breakers.LEAST_OPEN_S)
    asked = Breaker()
    asked.fail(10.0, began=10.0, retry_after_s=8.0)
    assert not asked.hasten(17.9)

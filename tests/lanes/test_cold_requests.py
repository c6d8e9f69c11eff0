"""Requests whose model is not in memory yet, through the door."""

import pytest

from routing.coordination.reservations import Reservations
from routing.lanes.loading import FleetLoader
from tests.cast import ALPHA, BETA, VECTORS, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import CHAT, ROUTE, SetStage, Stage, at

HELLO = {"taskType": "completion", "prompt": "Hello"}
STREAMED = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


@pytest.fixture
async def cold(set_stage: SetStage, host: SimulatedHost) -> Stage:
    """Three models, none in memory, at a simulator on this machine."""
    stage: Stage = await set_stage(document((ALPHA, BETA, VECTORS), (at(host.url, host="local"),)))
    stage.runtime.gate.loader = FleetLoader(stage.runtime)
    return stage


async def test_the_model_is_loaded_and_then_asked(
    cold: Stage, host: SimulatedHost, redis_url: str
) -> None:
    cold.runtime.reservations = Reservations(redis_url)
    assert (await cold.post(ROUTE, HELLO)).status == 200
    assert cold.runtime.state.offerings["alpha:1b@sim"].loaded
    assert host.sim.host.totals.loads == 1
    assert (await cold.post(ROUTE, {**HELLO, "taskType": "embedding"})).status == 200
    assert host.sim.host.totals.loads == 2
    assert cold.quiet()


async def test_a_stream_too(cold: Stage, host: SimulatedHost, redis_url: str) -> None:
    cold.runtime.reservations = Reservations(redis_url)
    heard = await cold.post(CHAT, STREAMED)
    assert heard.events[-1] == "[DONE]"
    assert cold.quiet()


async def test_a_model_that_cannot_be_loaded_is_passed_over(
    cold: Stage, host: SimulatedHost, redis_url: str
) -> None:
    cold.runtime.reservations = Reservations(redis_url)
    host.fail("http_error", model="alpha:1b")
    told = (await cold.post(ROUTE, HELLO)).json
    assert (told["selectedModel"], told["fallbackUsed"]) == ("beta:1b", True)
    assert [a.error_type for a in cold.record().attempts] == ["upstream_fault", ""]


async def test_without_redis_only_loaded_models_answer(cold: Stage, host: SimulatedHost) -> None:
    heard = await cold.post(ROUTE, HELLO)
    assert (heard.status, heard.headers["retry-after"]) == (503, "5")
    assert {c["reason"] for c in heard.json["candidates"]} == {"uncoordinated"}
    cold.runtime.state.endpoint("sim").loaded = frozenset({"beta:1b"})
    cold.runtime.state.endpoint_changed("sim")
    told = (await cold.post(ROUTE, HELLO)).json
    assert told["selectedModel"] == "beta:1b"
    assert host.sim.host.totals.loads == 1

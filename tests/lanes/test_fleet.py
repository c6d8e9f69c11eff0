"""What other machines and services tell reaches decisions, through Redis and in time."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from benchmarks import pressure
from routing.engine.decide import decide, explain
from routing.engine.errors import NoCandidate
from routing.engine.need import Need
from telemetry import redis_names
from telemetry.event_intake import EventIntake
from telemetry.state_news import HostNews
from tests.cast import document, model
from tests.lanes.stage import Stage, at
from tests.lanes.test_service import plane, publish
from tests.waiting import soon

TINY = model("tiny", ram_required_gb=1)
FAR = at("http://10.0.0.1:11434", "far", host="gpu-box")
NEED = Need(task="completion", prompt_tokens=10, max_tokens=10)


@pytest.fixture
async def intake(redis_url: str) -> AsyncIterator[Redis]:
    """A conductor's intake at work; the client to tell it things with."""
    stop = asyncio.Event()
    async with Redis.from_url(redis_url, socket_timeout=5) as client:
        running = asyncio.create_task(EventIntake(client, "c", models=lambda: {"tiny"}).run(stop))
        yield client
        stop.set()
        await asyncio.wait_for(running, 10)


async def tell(client: Redis, name: str, payload: dict[str, Any]) -> None:
    await client.xadd(redis_names.EVENTS_IN, {"name": name, "payload": json.dumps(payload)})


def refusal(runtime: Any) -> str:
    (row,) = explain(runtime.policy, runtime.state, NEED, runtime.clock())
    return row.rejection.reason if row.rejection else ""


async def test_a_change_counts_within_a_tenth_of_a_second(redis_url: str) -> None:
    here, there = await pressure.measure(redis_url, changes=30)
    assert here["p50_ms"] < 100
    assert there["p50_ms"] < 100


@pytest.mark.parametrize("endpoint", ["far", ""])
async def test_a_model_reported_unfit_is_left_out_until_it_is_well_and_by_new_workers_too(
    redis_url: str, tmp_path: Path, intake: Redis, endpoint: str
) -> None:
    publish(redis_url, document((TINY,), (msgspec.structs.replace(FAR, host=""),)), 1)
    health = {"model_name": "tiny", "endpoint": endpoint}
    for worker in ("one", "two"):
        async with plane(redis_url, tmp_path / worker) as made:
            await soon(lambda made=made: made.runtime.ready, 5)  # type: ignore[misc]
            await tell(intake, "model.health_changed", health | {"healthy": False})
            await soon(lambda made=made: refusal(made.runtime) == "unhealthy", 5)  # type: ignore[misc]
    async with plane(redis_url, tmp_path / "three") as made:
        await soon(lambda: made.runtime.ready, 5)
        await soon(lambda: refusal(made.runtime) == "unhealthy", 5)
        await tell(intake, "model.health_changed", health | {"healthy": True})
        await soon(lambda: refusal(made.runtime) == "", 5)


class TestSilence:
    @pytest.fixture
    async def stage(self, set_stage: Any) -> Stage:
        made: Stage = await set_stage(document((TINY,), (FAR,)))
        return made

    def report(self, stage: Stage, **more: Any) -> None:
        news: dict[str, Any] = {"host": "gpu-box", "available_gb": 60, "total_gb": 64}
        stage.runtime.hear(HostNews(**news | {"at": time.time(), "interval_s": 1.0} | more))

    def after(self, stage: Stage, seconds: float) -> str:
        runtime = stage.runtime
        (row,) = explain(runtime.policy, runtime.state, NEED, runtime.clock() + seconds)
        return row.rejection.reason if row.rejection else ""

    async def test_a_host_that_stops_reporting_is_unknown_and_not_free(self, stage: Stage) -> None:
        self.report(stage)
        assert [self.after(stage, s) for s in (0, 4.5, 5.5)] == ["", "", "memory_unknown"]
        self.report(stage)
        assert self.after(stage, 0) == ""

    async def test_a_slow_reporter_has_three_intervals(self, stage: Stage) -> None:
        self.report(stage, interval_s=10)
        assert [self.after(stage, s) for s in (29, 31)] == ["", "memory_unknown"]

    async def test_what_it_holds_answers_even_when_it_is_silent(self, stage: Stage) -> None:
        self.report(stage, loaded=("tiny:latest",), ollama_port=11434)
        runtime = stage.runtime
        later = runtime.clock() + 3600
        assert decide(runtime.policy, runtime.state, NEED, later).chosen.id == "tiny@far"

    async def test_of_several_endpoints_the_port_tells_which(self, set_stage: Any) -> None:
        other = at("http://10.0.0.1:11500", "other", host="gpu-box")
        stage: Stage = await set_stage(document((TINY,), (FAR, other)))
        self.report(stage, available_gb=1, loaded=("tiny",), ollama_port=11500)
        assert stage.runtime.state.offerings["tiny@other"].loaded
        assert not stage.runtime.state.offerings["tiny@far"].loaded

    async def test_pressure_of_another_host_counts(self, stage: Stage) -> None:
        self.report(stage, pressure=0.95)
        with pytest.raises(NoCandidate):
            decide(stage.runtime.policy, stage.runtime.state, NEED, stage.runtime.clock())
        assert self.after(stage, 0) == "memory_pressure"

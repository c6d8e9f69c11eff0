"""The agent as its own process: what it reports, and what it survives."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from telemetry import redis_names
from telemetry.agent_report import Reporter
from telemetry.event_intake import EventIntake, news_of
from telemetry.events import Event, HeldModel, ResourcePressureHigh
from telemetry.sampler import HostSample
from telemetry.state_news import HostNews
from tests.fixtures_engines import SimulatedHost

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
NOWHERE = "http://127.0.0.1:9"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "manage.py", "ai-orchestra", "agent", *arguments]


@asynccontextmanager
async def agent(redis_url: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command("--host", "gpu-box", *arguments),
        cwd=ROOT,
        env=os.environ | {"REDIS_URL": redis_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), 10)


async def reports(redis: Any, least: int, limit_s: float = 15) -> list[HostNews]:
    async with asyncio.timeout(limit_s):
        found: list[Any] = []
        while len(found) < least:
            await asyncio.sleep(0.05)
            found = await redis.xrange(redis_names.EVENTS_IN)
    news = [news_of(fields, 0.0) for _, fields in found]
    assert all(isinstance(each, HostNews) for each in news)
    return [each for each in news if isinstance(each, HostNews)]


async def test_it_reports_memory_and_what_ollama_holds(
    redis: Any, redis_url: str, simulator: SimulatedHost
) -> None:
    name = simulator.http.get("/api/tags").json()["models"][0]["name"]
    simulator.http.post("/api/generate", json={"model": name}).raise_for_status()
    async with agent(redis_url, "--ollama-url", simulator.url, "--interval", "0.2") as process:
        news = (await reports(redis, 4))[-1]
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert news.host == "gpu-box"
    assert 0 < news.available_gb <= news.total_gb
    assert news.loaded == (name,)
    assert news.ollama_port == int(simulator.url.rpartition(":")[2])
    assert news.stale_after_s == 5


async def test_without_ollama_it_reports_memory_and_says_so_once(
    redis: Any, redis_url: str
) -> None:
    async with agent(redis_url, "--ollama-url", NOWHERE, "--interval", "0.1") as process:
        assert (await reports(redis, 8))[-1].loaded is None
        process.terminate()
        _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert errors.decode().count("Ollama is away") == 1


async def test_it_goes_on_when_redis_lost_everything_and_refused_it(
    redis: Any, redis_url: str
) -> None:
    async with agent(redis_url, "--ollama-url", NOWHERE, "--interval", "0.1"):
        await reports(redis, 1)
        await redis.client_kill_filter(_type="normal", skipme=True)
        await redis.delete(redis_names.EVENTS_IN)
        assert await reports(redis, 2)


def test_once_prints_a_report_and_needs_neither_redis_nor_django() -> None:
    done = subprocess.run(
        command("--once", "--host", "x", "--ollama-url", NOWHERE),
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["host"] == "x"
    look = (
        "import sys, telemetry.agent; print([m for m in ('django', 'psycopg') if m in sys.modules])"
    )
    seen = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "local"), "each node's own machine"),
        (("--host", "a b"), "cannot name a host"),
        (("--interval", "0"), "is not from 0.05 to 60 seconds"),
        (("--ollama-url", "localhost"), "is not like http://"),
        (("--redis-url", "http://:secret@x"), "The URL of Redis cannot be read"),
        (("--host", "x"), "set REDIS_URL"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], said: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "telemetry.agent", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert "secret" not in done.stderr


def look(available_gb: float) -> HostSample:
    return HostSample(available_gb, 0, 100, 1 - available_gb / 100, 0, 0, 0)


class TestWhenItReports:
    def told(self) -> Reporter:
        reporter = Reporter(1.0)
        assert reporter.due(look(50), 0.0)
        reporter.told(look(50), 0.0)
        return reporter

    def test_in_time(self) -> None:
        assert not self.told().due(look(50), 0.9)
        assert self.told().due(look(50), 1.0)

    def test_at_once_when_memory_moved(self) -> None:
        assert not self.told().due(look(48.5), 0.05)
        assert self.told().due(look(47.9), 0.05)

    def test_at_once_when_the_level_or_the_models_changed(self) -> None:
        reporter = Reporter(1.0)
        reporter.told(look(30.5), 0.0)
        assert reporter.due(look(29.9), 0.05)
        assert reporter.due(look(30.5), 0.05, (HeldModel("m"),))


async def test_a_reporting_hosts_crossing_is_told_once_by_however_many_conductors(
    redis: Any,
) -> None:
    told: list[Event] = []
    intakes = [EventIntake(redis, name, publish=told.append) for name in ("a", "b")]
    for available in (5, 1.5, 1.5, 1.9, 1.5, 1.5, 6, 6, 1, 1):
        payload = {"memory_available_gb": available, "memory_total_gb": 10, "host": "far"}
        fields = {"name": "system.resource_updated", "payload": json.dumps(payload)}
        await redis.xadd(redis_names.EVENTS_IN, fields)
        for intake in intakes:
            await intake.take(1)
        intakes.reverse()
    assert [type(event) for event in told] == [ResourcePressureHigh] * 2
    assert {event.host for event in told if isinstance(event, ResourcePressureHigh)} == {"far"}


async def test_health_of_a_model_that_nobody_offers_is_set_aside(redis: Any) -> None:
    payload = json.dumps({"model_name": "typo", "healthy": False})
    await redis.xadd(redis_names.EVENTS_IN, {"name": "model.health_changed", "payload": payload})
    await EventIntake(redis, "c", models=lambda: {"m"}).take(10)
    ((_, rejected),) = await redis.xrange(redis_names.EVENTS_REJECTED)
    assert b"typo" in rejected[b"reason"]

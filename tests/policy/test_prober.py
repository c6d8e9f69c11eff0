"""The conductor's prober and keeper: news of endpoints, models found, outages survived."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest
import redis
from django.conf import LazySettings

from routing.models import Endpoint, Model, Offering
from routing.policy import keeper, prober
from routing.policy.database import in_thread
from routing.policy.export import policy_version
from telemetry import state_news
from telemetry.redis_names import POLICY_PROBER, POLICY_VERSION, STATE_LAST
from telemetry.state_news import EndpointNews
from tests.fixtures_engines import SimulatedHost
from tests.policy.catalogue import a_model, an_endpoint

pytestmark = pytest.mark.django_db(transaction=True)

LIMIT_S = 10


@contextlib.asynccontextmanager
async def job(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(stop))
    try:
        yield
        assert not task.done(), task
    finally:
        stop.set()
        await asyncio.wait_for(task, LIMIT_S)


async def until(holds: Callable[[], bool], limit_s: float = LIMIT_S) -> None:
    deadline_s = time.monotonic() + limit_s
    while not await in_thread(holds):
        assert time.monotonic() < deadline_s, f"not within {limit_s} s"
        await asyncio.sleep(0.02)


def last(store: redis.Redis, name: str = "desk") -> EndpointNews | None:
    message = store.hget(STATE_LAST, f"endpoint:{name}")
    news = state_news.decode(message) if isinstance(message, bytes) else None
    return news if isinstance(news, EndpointNews) else None


async def there_is(url: str, name: str = "desk") -> None:
    await in_thread(functools.partial(an_endpoint, name, base_url=url))


def is_up(store: redis.Redis, name: str = "desk") -> bool:
    news = last(store, name)
    return news is not None and news.up


async def test_news_and_offerings_come_within_moments(
    simulator: SimulatedHost, store: redis.Redis
) -> None:
    await there_is(simulator.url)
    async with job(prober.run):
        await until(lambda: is_up(store), 2)
        await until(lambda: Offering.objects.count() == 14, 3)


async def test_an_endpoint_added_meanwhile_is_looked_at_at_once(
    simulator: SimulatedHost, store: redis.Redis
) -> None:
    async with job(prober.run):
        await asyncio.sleep(0.3)
        await there_is(simulator.url)
        await until(lambda: is_up(store), 2)


async def test_going_down_and_coming_back_is_told(
    simulator: SimulatedHost, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "EVERY_S", 0.2)
    monkeypatch.setattr(prober, "DOWN_EVERY_S", 0.2)
    await there_is(simulator.url)
    async with job(prober.run):
        await until(lambda: is_up(store))
        await in_thread(functools.partial(simulator.fail, "http_error", path="/api/tags"))
        await until(lambda: not is_up(store))
        news = last(store)
        assert news is not None
        assert "/api/tags answered with status 500" in news.error
        await in_thread(simulator.recover)
        await until(lambda: is_up(store))


async def test_a_loaded_model_is_told(
    simulator: SimulatedHost, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "EVERY_S", 0.2)
    await there_is(simulator.url)
    async with job(prober.run), httpx.AsyncClient() as http:
        await until(lambda: is_up(store))
        await http.post(f"{simulator.url}/api/generate", json={"model": "llama3.2:1b"})
        await until(lambda: (news := last(store)) is not None and news.loaded == ("llama3.2:1b",))


async def test_a_disabled_endpoint_leaves_the_last_news(
    simulator: SimulatedHost, store: redis.Redis
) -> None:
    await there_is(simulator.url)
    async with job(prober.run):
        await until(lambda: is_up(store))
        await in_thread(lambda: Endpoint.objects.update(enabled=False))
        await until(lambda: last(store) is None, 4)


async def test_only_one_conductor_probes(
    simulator: SimulatedHost, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await there_is(simulator.url)
    async with job(prober.run), job(prober.run):
        await until(lambda: is_up(store))
        await asyncio.sleep(2 * prober.RETRY_S)
        assert store.exists(POLICY_PROBER)
    assert caplog.text.count("Endpoint desk is up") == 1
    assert not store.exists(POLICY_PROBER)


async def test_another_conductor_takes_over(
    simulator: SimulatedHost, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober, "RETRY_S", 0.1)
    await there_is(simulator.url)
    # What a conductor that was killed leaves behind.
    store.set(POLICY_PROBER, "dead", px=1000)
    async with job(prober.run):
        await asyncio.sleep(0.5)
        assert last(store) is None
        await until(lambda: is_up(store), 3)


async def test_a_prober_that_lost_its_lock_stops(
    simulator: SimulatedHost,
    store: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prober, "LOCK_S", 0.9)
    await there_is(simulator.url)
    async with job(prober.run):
        await until(lambda: is_up(store))
        store.set(POLICY_PROBER, "somebody else", px=60_000)
        await until(lambda: "Another conductor probes" in caplog.text)
    assert store.get(POLICY_PROBER) == b"somebody else"


async def test_redis_away_is_waited_out(
    settings: LazySettings,
    simulator: SimulatedHost,
    store: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prober, "RETRY_S", 0.1)
    await there_is(simulator.url)
    there = settings.REDIS_URL
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    async with job(prober.run):
        await asyncio.sleep(0.5)
        settings.REDIS_URL = there
        await until(lambda: is_up(store))
    assert caplog.text.count("Endpoints are not probed while Redis is away") == 1


async def test_the_keeper_publishes_what_nobody_published(
    settings: LazySettings, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    there = settings.REDIS_URL
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    async with job(keeper.run):
        await in_thread(a_model)
        await asyncio.sleep(1.2)
        settings.REDIS_URL = there
        await until(lambda: store.get(POLICY_VERSION) == str(policy_version()).encode())
    assert caplog.text.count("cannot be published for now") == 1
    assert await in_thread(Model.objects.count) == 1

"""What dashboards are told: windows of the last minute, and the snapshot of somebody new."""

import asyncio
import contextlib
import re
from typing import Any

import pytest
from channels.layers import get_channel_layer  # type: ignore[import-untyped]

from telemetry import live, redis_names, state_news
from telemetry.live import LIVE_GROUP, LiveFeed, live_snapshot
from telemetry.live_state import LiveState
from telemetry.live_window import LiveWindow
from telemetry.offering_health import KnownOffering, NewsBoard
from telemetry.sampler import HostSample, sample
from telemetry.spool.layout import SpoolUse
from telemetry.state_news import BreakerNews, EndpointNews
from tests.telemetry.records import a_record

NOW = 1_000_000_000.3
HOST = HostSample(2.0, 1.0, 10.0, 0.8, 50.0, 0.0, NOW)
USE = SpoolUse(total_bytes=9, backlog_bytes=5, corrupt=1)


def ended(seconds_ago: float, **changes: Any) -> Any:
    changes.setdefault("response_time_ms", 100)
    created = int((NOW - seconds_ago) * 1e6) - changes["response_time_ms"] * 1000
    return a_record(changes.pop("number", 0), created_at_us=created, **changes)


def ticked(state: LiveState, *, board: NewsBoard | None = None, offerings: Any = ()) -> Any:
    return state.tick(HOST, USE, board or NewsBoard(), offerings, NOW)


def test_figures_are_of_the_last_ten_whole_seconds() -> None:
    state = LiveState()
    state.window.add([ended(0.1), ended(11)], NOW)
    state.window.add([ended(1) for _ in range(45)], NOW)
    state.window.add([ended(9, success=False, response_time_ms=2000) for _ in range(5)], NOW)
    tick = ticked(state)
    assert (tick["throughput_rps"], tick["error_rate"], tick["fallback_rate"]) == (5.0, 0.1, 0.0)
    assert (tick["p50_ms"], tick["p99_ms"]) == (pytest.approx(100, 0.02), pytest.approx(2000, 0.02))
    (point,) = tick["series"]
    assert (point["rps"], point["at_ms"], point["pressure"]) == (45.0, 1_000_000_000_000, 0.8)


def test_nothing_happened() -> None:
    tick = ticked(LiveState())
    assert tick["throughput_rps"] == 0
    assert tick["p50_ms"] is tick["error_rate"] is tick["selection_p95_us"] is None
    assert tick["recent"] == tick["models"] == []
    assert tick["spool"] == {"backlog_bytes": 5, "corrupt": 1}
    assert (tick["memory"]["level"], tick["memory"]["available_gb"]) == ("high", 2.0)


def test_recent_requests_are_the_newest_first() -> None:
    state = LiveState()
    state.window.add([ended(n, number=n) for n in range(30, 2, -1)], NOW)
    state.window.add([ended(1, number=1), ended(40, number=40)], NOW)
    shown = ticked(state)["recent"]
    assert [r["request_id"] for r in shown][:3] == ["req-00000001", "req-00000003", "req-00000004"]
    assert len(shown) == 20
    assert shown[0]["reason"] == "best score 0.82 of 7 candidates"


def test_a_request_without_a_choice_says_why() -> None:
    state = LiveState()
    state.window.add([ended(1, reason="", error_message="No model can take it.")], NOW)
    assert ticked(state)["recent"][0]["reason"] == "No model can take it."


def test_old_requests_do_not_count_after_an_outage() -> None:
    window = LiveWindow(recent=5)
    window.add([ended(3600)], NOW)
    assert window.span(int(NOW) - 60, int(NOW) + 1).requests == 0
    assert len(window.recent) == 1


def test_the_window_forgets() -> None:
    window = LiveWindow(recent=5)
    window.add([ended(1)], NOW)
    window.add([], NOW + 100)
    assert window._seconds == {}


def test_models_join_counts_with_health() -> None:
    state = LiveState()
    state.window.add([ended(1), ended(2, success=False)], NOW)
    news = NewsBoard()
    news.add(EndpointNews("ollama-local", True, NOW, loaded=("model-0",)))
    news.add(BreakerNews("other@ollama-local", "open", NOW, NOW + 5))
    known = [KnownOffering(name, "ollama-local", name) for name in ("other", "model-0")]
    first, second = ticked(state, board=news, offerings=known)["models"]
    assert (first["model_name"], first["requests"], first["errors"]) == ("model-0", 2, 1)
    assert (first["healthy"], first["loaded"], first["breaker"]) == (True, True, "closed")
    assert (second["healthy"], second["breaker"], second["requests"]) == (False, "open", 0)
    assert second["endpoints"][0]["open_until_ms"] == int((NOW + 5) * 1000)


def test_load_is_the_requests_in_flight_on_average() -> None:
    window = LiveWindow(recent=5)
    # Ten requests of two seconds each within ten seconds.
    window.add([ended(n + 0.5, response_time_ms=2000) for n in range(10)], NOW)
    window.add([ended(1, kind="select", response_time_ms=5000)], NOW)
    assert window.loads(int(NOW), 10) == {"model-0": pytest.approx(2.0, 0.2)}


def test_a_new_conductor_goes_on_with_the_curve() -> None:
    before = LiveState()
    before.window.add([ended(1, number=7)], NOW)
    kept = ticked(before)
    after = LiveState()
    after.resume(kept)
    tick = ticked(after)
    assert len(after.series) == 2
    assert tick["recent"] == kept["recent"]


def documented_names() -> set[str]:
    assert live.__doc__ is not None
    return set(re.findall(r'"(\w+)":', live.__doc__))


def names_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for below in value.values() for name in names_of(below)}
    if isinstance(value, list):
        return {name for below in value for name in names_of(below)}
    return set()


def test_the_shape_is_the_documented_one() -> None:
    state = LiveState()
    state.window.add([ended(1)], NOW)
    tick = ticked(state, offerings=[KnownOffering("model-0", "e", "model-0")])
    assert names_of(tick) == documented_names() - {"type", "data"}


async def test_a_tick_reaches_the_group_and_the_snapshot(redis: Any) -> None:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(LIVE_GROUP, channel)
    news = EndpointNews("e", True, sample().at, simulated=True)
    await redis.hset(redis_names.STATE_LAST, news.key, state_news.encode(news))
    feed, stop = LiveFeed(redis, "here"), asyncio.Event()
    feed.offerings = [KnownOffering("m", "e", "m")]
    running = asyncio.create_task(feed.run(stop))
    message = await asyncio.wait_for(layer.receive(channel), 10)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert message["type"] == "live.tick"
    assert message["data"]["models"][0]["endpoints"][0]["up"] is True
    snapshot = await live_snapshot()
    assert snapshot["stale"] is False
    assert snapshot["series"][-1] == message["data"]["series"][0]
    with contextlib.suppress(AttributeError):
        await layer.close_pools()


async def test_a_snapshot_without_any_conductor_is_stale(redis: Any) -> None:
    snapshot = await live_snapshot()
    assert snapshot["stale"] is True
    assert snapshot["series"] == snapshot["recent"] == []
    assert snapshot["memory"]["total_gb"] > 0

"""The feed of open dashboards, over the test run's own Redis."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from channels.layers import channel_layers, get_channel_layer  # type: ignore[import-untyped]
from channels.routing import URLRouter  # type: ignore[import-untyped]
from channels.testing import WebsocketCommunicator  # type: ignore[import-untyped]
from channels_redis.pubsub import RedisPubSubChannelLayer  # type: ignore[import-untyped]

from dashboard import consumers
from dashboard.routing import websocket_urlpatterns
from telemetry.live import LIVE_GROUP, TICK_TYPE
from tests.dashboard.messages import live, request

ANSWER_LIMIT_S = 5


def connection(origin: str | None = "http://localhost:8080") -> WebsocketCommunicator:
    headers = [(b"host", b"localhost:8080")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    return WebsocketCommunicator(URLRouter(websocket_urlpatterns), "/ws/live", headers=headers)


async def publish(data: dict[str, Any]) -> None:
    await get_channel_layer().group_send(LIVE_GROUP, {"type": TICK_TYPE, "data": data})


@pytest.fixture
async def feed(redis_url: str) -> AsyncIterator[WebsocketCommunicator]:
    """A connected dashboard that has not read anything yet."""
    communicator = connection()
    connected, _ = await communicator.connect(timeout=ANSWER_LIMIT_S)
    assert connected
    yield communicator
    await communicator.disconnect()


async def received(feed: WebsocketCommunicator) -> dict[str, Any]:
    message: dict[str, Any] = await feed.receive_json_from(timeout=ANSWER_LIMIT_S)
    return message


async def test_a_dashboard_gets_a_snapshot_first(feed: WebsocketCommunicator) -> None:
    message = await received(feed)
    assert message["type"] == "snapshot"
    assert set(live()) == set(message["data"])


async def test_then_every_tick_as_it_was_sent(feed: WebsocketCommunicator) -> None:
    await received(feed)
    sent = live(recent=[request(1)])
    await publish(sent)
    assert await received(feed) == {"type": "tick", "data": sent}


async def test_what_happens_while_the_snapshot_is_read_is_not_missed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow_snapshot() -> dict[str, Any]:
        await publish(live(throughput_rps=7.0))
        return live(series=[])

    monkeypatch.setattr(consumers, "live_snapshot", slow_snapshot)
    feed = connection()
    await feed.connect(timeout=ANSWER_LIMIT_S)
    messages = [await received(feed), await received(feed)]
    await feed.disconnect()
    assert [message["type"] for message in messages] == ["snapshot", "tick"]


async def test_what_a_browser_sends_is_ignored(feed: WebsocketCommunicator) -> None:
    await received(feed)
    for text in ("not JSON", '{"type": "live.tick", "data": 1}'):
        await feed.send_to(text_data=text)
    await feed.send_to(bytes_data=b"\x00")
    await publish(live())
    assert (await received(feed))["type"] == "tick"


async def test_who_has_left_gets_nothing(redis_url: str) -> None:
    feed = connection()
    await feed.connect(timeout=ANSWER_LIMIT_S)
    await received(feed)
    await feed.disconnect()
    layer = get_channel_layer()
    assert not any(layer.groups.values())


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", None])
async def test_pages_of_other_hosts_are_refused(redis_url: str, origin: str | None) -> None:
    connected, _ = await connection(origin).connect(timeout=ANSWER_LIMIT_S)
    assert not connected


async def test_while_redis_is_away_it_asks_to_come_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = RedisPubSubChannelLayer(hosts=[f"unix://{tmp_path}/nobody.sock"])
    monkeypatch.setitem(channel_layers.backends, "default", nowhere)
    feed = connection()
    with caplog.at_level(logging.WARNING, "dashboard"):
        connected, code = await feed.connect(timeout=ANSWER_LIMIT_S)
    assert (connected, code) == (False, consumers.TRY_AGAIN_LATER)
    assert "Redis does not answer" in caplog.text

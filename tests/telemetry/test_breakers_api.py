"""GET /api/v1/ai/breakers and POST …/reset over a real database and a real Redis."""

import logging
import time
from typing import Any

import pytest
import redis as client_of
from django.test import Client

from telemetry import redis_names, state_news
from telemetry.state_news import BreakerNews
from tests.telemetry.policy import a_model, an_endpoint
from tests.telemetry.test_models_status_api import tell

PATH = "/api/v1/ai/breakers"
pytestmark = pytest.mark.django_db


def reset(client: Client, body: Any) -> Any:
    return client.post(f"{PATH}/reset", body, content_type="application/json")


@pytest.fixture
def fleet(redis_url: str) -> str:
    """Two models at two endpoints; one breaker is open, one has been open for its time."""
    here, there = an_endpoint("here"), an_endpoint("there")
    a_model("b:7b", here, there)
    a_model("a:3b", here)
    now = time.time()
    tell(
        redis_url,
        BreakerNews("b:7b@here", "open", now, now + 60, "w", 1.0, 2, "upstream_fault"),
        BreakerNews("b:7b@there", "open", now - 60, now - 1, "w", 1.0, 1, "upstream_timeout"),
    )
    return redis_url


def test_every_breaker_by_name_with_its_state(client: Client, fleet: str) -> None:
    told = client.get(PATH).json()
    rows = {f"{b['model']}@{b['endpoint']}": b for b in told["breakers"]}
    assert list(rows) == ["a:3b@here", "b:7b@here", "b:7b@there"]
    assert [row["state"] for row in rows.values()] == ["closed", "open", "half-open"]
    assert (rows["b:7b@here"]["openings"], rows["b:7b@here"]["reason"]) == (2, "upstream_fault")
    assert rows["b:7b@here"]["open_until"] > rows["b:7b@here"]["since"]
    assert rows["b:7b@there"]["open_until"] is None
    assert rows["a:3b@here"]["since"] is None
    assert (told["total"], told["open"]) == (3, 1)


@pytest.mark.parametrize(
    ("body", "closed"),
    [
        ({"model": "b:7b"}, ["b:7b@here", "b:7b@there"]),
        ({"endpoint": "here"}, ["a:3b@here", "b:7b@here"]),
        ({"model": "b:7b", "endpoint": "there"}, ["b:7b@there"]),
        ({"all": True}, ["a:3b@here", "b:7b@here", "b:7b@there"]),
    ],
)
def test_a_reset_closes_what_is_named_and_is_logged(
    client: Client,
    fleet: str,
    caplog: pytest.LogCaptureFixture,
    body: dict[str, Any],
    closed: list[str],
) -> None:
    with caplog.at_level(logging.INFO):
        assert reset(client, body).json() == {"reset": closed}
    assert f"reset by a caller at 127.0.0.1: {', '.join(closed)}" in caplog.text
    states = {
        f"{b['model']}@{b['endpoint']}": b["state"] for b in client.get(PATH).json()["breakers"]
    }
    assert {states[name] for name in closed} == {"closed"}


def test_a_reset_frees_the_probe_and_is_told(client: Client, fleet: str) -> None:
    with client_of.Redis.from_url(fleet) as redis, redis.pubsub() as pubsub:
        redis.set(redis_names.PROBE + "b:7b@there", "somebody")
        pubsub.subscribe(redis_names.STATE_CHANNEL)
        assert pubsub.get_message(timeout=1)
        reset(client, {"model": "b:7b", "endpoint": "there"})
        heard = pubsub.get_message(timeout=1) or {}
        news = state_news.decode(heard["data"])
        assert isinstance(news, BreakerNews)
        assert (news.offering, news.state) == ("b:7b@there", "closed")
        assert not redis.exists(redis_names.PROBE + "b:7b@there")


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({}, "", "give model, endpoint, or both"),
        ({"all": False}, "", "give model, endpoint, or both"),
        ({"all": True, "model": "b:7b"}, "/all", "on its own"),
        ({"model": "b:8b"}, "/model", "did you mean b:7b?"),
        ({"endpoint": "hear"}, "/endpoint", "did you mean here?"),
        ({"modle": "b:7b"}, "/modle", "did you mean model?"),
        ({"model": "a:3b", "endpoint": "there"}, "/endpoint", "but at here"),
        ([], "", "dictionary"),
        ({"model": None}, "/model", "null"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    client: Client, fleet: str, body: Any, pointer: str, said: str
) -> None:
    answer = reset(client, body)
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    assert error["pointer"].removesuffix("/non_field_errors") == pointer
    assert said in error["detail"]


def test_without_redis_nothing_is_shown_or_reset(client: Client, fleet: str, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    for answer in (client.get(PATH), reset(client, {"all": True})):
        assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")

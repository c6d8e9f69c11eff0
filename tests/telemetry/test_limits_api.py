"""GET /api/v1/ai/limits over a real database and a real Redis."""

import time
from typing import Any

import pytest
import redis as client_of
from django.test import Client

from routing.coordination.rates_script import ASK, REDIS_CLOCK
from routing.engine.rates import Limit
from routing.models import ApiKey, Tenant
from telemetry.redis_names import RATES

PATH = "/api/v1/ai/limits"
pytestmark = pytest.mark.django_db


@pytest.fixture
def acme(redis_url: str) -> str:
    """A tenant with a limit a day, and a key with one a minute and two streams."""
    client = client_of.Redis.from_url(redis_url)
    for name in client.keys(RATES + "*"):
        client.delete(name)
    tenant = Tenant.objects.create(name="acme", requests_per_day=1000)
    ApiKey.objects.create(
        name="ci", tenant=tenant, prefix="ao_acme_x", digest="0" * 64,
        tokens_per_minute=6000, concurrent_streams=2,
    )  # fmt: skip
    return redis_url


def lease(redis_url: str, limit: Limit, units: int, *, extra: int = 0) -> None:
    """Let a worker lease units, of which it spends none yet."""
    said = ("w", time.time_ns(), 0, 0, extra, 0, units, 0, 5_000_000, 0, 0, limit.most)
    more = (limit.period_us, limit.burst, 1, "channel", "w x")
    client = client_of.Redis.from_url(redis_url)
    client.eval(REDIS_CLOCK + ASK, 1, RATES + limit.id, *said, *more)


def rows(client: Client) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.get(PATH).json()["limits"]}


def test_every_limit_has_a_row_though_nobody_came_yet(client: Client, acme: str) -> None:
    told = client.get(PATH).json()
    assert (told["total"], told["exhausted"]) == (3, 0)
    found = [(row["of"], row["owner"], row["name"], row["period_s"]) for row in told["limits"]]
    assert found == [
        ("tenant", "acme", "requests_per_day", 86400),
        ("key", "ci", "tokens_per_minute", 60),
        ("key", "ci", "concurrent_streams", 0),
    ]
    assert all(row["used"] == 0 and row["left"] == row["most"] for row in told["limits"])
    assert all(row["full_at"] is None for row in told["limits"])


def test_what_is_leased_used_and_left_adds_up(client: Client, acme: str) -> None:
    lease(acme, Limit(of="tenant", owner="acme", name="requests_per_day", most=1000), 30, extra=10)
    lease(acme, Limit(of="key", owner="ci", name="concurrent_streams", most=2), 2)
    told = rows(client)
    day = told["requests_per_day"]
    assert (day["used"], day["leased"], day["left"], day["workers"]) == (10, 30, 960, 1)
    assert day["full_at"] is not None
    streams = told["concurrent_streams"]
    assert (streams["leased"], streams["left"], streams["full_at"]) == (2, 0, None)


def test_a_debt_is_more_than_the_limit(client: Client, acme: str) -> None:
    limit = Limit(of="key", owner="ci", name="tokens_per_minute", most=6000)
    lease(acme, limit, 0, extra=9000)
    told = client.get(PATH).json()
    (row,) = (row for row in told["limits"] if row["name"] == "tokens_per_minute")
    assert row["used"] > 8000
    assert row["left"] == 0
    assert told["exhausted"] == 1


def test_without_redis_nobody_knows(client: Client, acme: str, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    heard = client.get(PATH)
    assert heard.status_code == 503
    assert heard.json()["code"] == "redis_unavailable"
    assert "share" in heard.json()["detail"]


def test_the_admin_shows_it_on_the_page_of_a_tenant_and_a_key(
    admin_client: Client, acme: str, settings: Any
) -> None:
    lease(acme, Limit(of="tenant", owner="acme", name="requests_per_day", most=1000), 30, extra=10)
    tenant, key = Tenant.objects.get(), ApiKey.objects.get()
    page = admin_client.get(f"/admin/routing/tenant/{tenant.pk}/change/").content.decode()
    assert "requests per day: 10 of 1,000 used, 30 held by workers, 960 left" in page
    page = admin_client.get(f"/admin/routing/apikey/{key.pk}/change/").content.decode()
    assert "tokens per minute: 0 of 6,000 used" in page
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    page = admin_client.get(f"/admin/routing/tenant/{tenant.pk}/change/").content.decode()
    assert "not known while Redis is away" in page

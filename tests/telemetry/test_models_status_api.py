"""GET /api/v1/ai/models/status over a real database and a real Redis."""

import time
from typing import Any

import pytest
import redis as client_of
from django.test import Client

from telemetry import redis_names, state_news
from telemetry.models import ModelMetric
from telemetry.state_news import BreakerNews, EndpointNews, StateNews
from tests.telemetry.policy import a_model, an_endpoint

PATH = "/api/v1/ai/models/status"
pytestmark = pytest.mark.django_db
METRICS = [
    "request_count", "success_count", "error_count", "avg_response_time_ms", "current_load",
    "memory_usage_mb", "last_used", "created_at", "updated_at",
]  # fmt: skip


def tell(redis_url: str, *news: StateNews) -> None:
    with client_of.Redis.from_url(redis_url) as redis:
        for one in news:
            redis.hset(redis_names.STATE_LAST, one.key, state_news.encode(one))


def seen(endpoint: str, **changes: Any) -> EndpointNews:
    return EndpointNews(**{"endpoint": endpoint, "up": True, "at": time.time(), **changes})


def test_enabled_models_with_their_metrics(client: Client, redis_url: str) -> None:
    here = an_endpoint("here", simulated=True)
    a_model("b:7b", here, speed="fast", quality_tier="high")
    a_model("a:3b", here)
    a_model("off:1b", here, enabled=False)
    metric = ModelMetric.objects.create(
        model_name="b:7b", request_count=3, success_count=2, error_count=1,
        avg_response_time_ms=12.5, current_load=0.5, memory_usage_mb=4000.0,
    )  # fmt: skip
    tell(redis_url, seen("here", loaded=("b:7b",)))
    body = client.get(PATH).json()
    assert list(body) == ["models", "systemHealth", "totalModels", "healthyModels"]
    assert (body["totalModels"], body["healthyModels"]) == (2, 2)
    first, second = body["models"]
    assert [first["model_name"], second["model_name"]] == ["a:3b", "b:7b"]
    assert list(second)[:11] == ["id", "model_name", *METRICS]
    assert second["id"] == str(metric.id)
    assert [second[name] for name in METRICS[:6]] == [3, 2, 1, 12.5, 0.5, 4000.0]
    rest = {name: second[name] for name in list(second)[11:]}
    assert rest == {
        "healthy": True, "status": "healthy", "breaker": "closed", "loaded": True,
        "simulated": True, "capabilities": ["code", "analysis"], "qualityTier": "high",
        "speed": "fast",
        "endpoints": [
            {"endpoint": "here", "healthy": True, "up": True, "offered": None, "loaded": True,
             "breaker": "closed", "simulated": True, "note": ""},
        ],
    }  # fmt: skip
    assert first["request_count"] == 0
    assert first["last_used"] is None


def test_a_models_id_stays_the_same(client: Client, redis_url: str) -> None:
    a_model("a:3b")
    ids = {client.get(PATH).json()["models"][0]["id"] for _ in range(2)}
    assert len(ids) == 1


def test_metrics_can_be_left_out(client: Client, redis_url: str) -> None:
    a_model("a:3b", an_endpoint())
    (model,) = client.get(PATH, {"includeMetrics": "false"}).json()["models"]
    assert not set(METRICS) & set(model)
    assert model["status"] == "unknown"


def test_health_is_what_the_endpoints_and_breakers_say(client: Client, redis_url: str) -> None:
    here, there = an_endpoint("here"), an_endpoint("there")
    a_model("both:1b", here, there)
    a_model("down:1b", there)
    a_model("broken:1b", here)
    a_model("nowhere:1b")
    tell(
        redis_url,
        seen("here"),
        seen("there", up=False),
        BreakerNews("broken:1b@here", "open", time.time(), time.time() + 60),
    )
    body = client.get(PATH).json()
    assert {m["model_name"]: m["status"] for m in body["models"]} == {
        "both:1b": "degraded",
        "broken:1b": "unavailable",
        "down:1b": "unavailable",
        "nowhere:1b": "unavailable",
    }
    assert body["healthyModels"] == 1
    assert body["systemHealth"]["status"] == "degraded"
    assert body["models"][1]["breaker"] == "open"


def test_queries_do_not_grow_with_the_models(
    client: Client, redis_url: str, django_assert_max_num_queries: Any
) -> None:
    here = an_endpoint()
    for number in range(30):
        a_model(f"m{number}:1b", here)
    client.get(PATH)
    with django_assert_max_num_queries(5):
        assert client.get(PATH).json()["totalModels"] == 30


def test_without_redis_the_models_are_told_with_nothing_known(
    client: Client, settings: Any, tmp_path: Any
) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/none.sock"
    a_model("a:3b", an_endpoint())
    body = client.get(PATH).json()
    assert body["models"][0]["endpoints"][0]["up"] is None
    assert (body["systemHealth"]["redis"], body["systemHealth"]["status"]) == ("error", "degraded")


def test_no_model_at_all_is_unhealthy(client: Client, redis_url: str) -> None:
    body = client.get(PATH).json()
    assert body["models"] == []
    assert body["systemHealth"]["status"] == "unhealthy"


@pytest.mark.parametrize("query", ["includeMetrics=maybe", "include=1", "hours=3"])
def test_bad_parameters_are_refused(client: Client, query: str) -> None:
    answer = client.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"

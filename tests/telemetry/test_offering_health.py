"""What the state news say of a model at an endpoint."""

from typing import Any

import pytest

from telemetry import state_news
from telemetry.offering_health import KnownOffering, NewsBoard, best_breaker, memory_by_model
from telemetry.state_news import BreakerNews, EndpointNews, ModelHealthNews, StateNews
from telemetry.verdict import model_status, service_verdict

NOW = 1000.0
OFFERING = KnownOffering("m:7b", "e", "m:7b")


def seen(**changes: Any) -> EndpointNews:
    return EndpointNews(**{"endpoint": "e", "up": True, "at": NOW, **changes})


def board(*news: StateNews) -> NewsBoard:
    return NewsBoard.from_messages([state_news.encode(n) for n in news])


def test_nobody_has_looked() -> None:
    health = NewsBoard().health(OFFERING, NOW)
    assert health.up is None
    assert health.healthy
    assert model_status([health]) == "unknown"


def test_old_news_is_no_news() -> None:
    assert board(seen(at=NOW - 61, up=False)).health(OFFERING, NOW).up is None


@pytest.mark.parametrize(
    ("news", "healthy"),
    [
        (seen(), True),
        (seen(up=False), False),
        (seen(available=("other",)), False),
        (seen(available=("m:7b",)), True),
        (BreakerNews("m:7b@e", "open", NOW, NOW + 5), False),
        (BreakerNews("m:7b@e", "open", NOW, NOW - 1), True),
        (BreakerNews("m:7b@e", "half-open", NOW), True),
        (BreakerNews("other@e", "open", NOW, NOW + 5), True),
        (ModelHealthNews("m:7b", False, NOW, "e"), False),
        (ModelHealthNews("m:7b", False, NOW), False),
        (ModelHealthNews("m:7b", False, NOW, "elsewhere"), True),
    ],
)
def test_what_makes_an_offering_unfit(news: StateNews, healthy: bool) -> None:
    assert board(seen(), news).health(OFFERING, NOW).healthy == healthy


def test_what_is_said_of_the_endpoint_goes_before_what_is_said_of_all() -> None:
    both = board(ModelHealthNews("m:7b", False, NOW), ModelHealthNews("m:7b", True, NOW, "e"))
    assert both.health(OFFERING, NOW).healthy


def test_ollamas_latest_is_the_same_model() -> None:
    news = board(seen(available=("m:latest",), loaded=("m:latest",), loaded_mb=(1500.0,)))
    offering = KnownOffering("m", "e", "m")
    health = news.health(offering, NOW)
    assert (health.offered, health.loaded) == (True, True)
    assert memory_by_model([offering], news, NOW) == {"m": 1500.0}


def test_memory_is_summed_over_endpoints() -> None:
    loaded: dict[str, Any] = {"loaded": ("x", "m:7b"), "loaded_mb": (1.0, 2.5)}
    news = board(seen(**loaded), seen(endpoint="f", **loaded))
    offerings = [OFFERING, KnownOffering("m:7b", "f", "m:7b")]
    assert memory_by_model(offerings, news, NOW) == {"m:7b": 5.0}


def test_news_of_a_newer_release_is_left_out() -> None:
    assert NewsBoard.from_messages([b"\x81\xa4type\xa3new", b"junk"]) == NewsBoard()


def test_a_models_status_and_best_breaker() -> None:
    news = board(seen(), seen(endpoint="f", up=False), BreakerNews("m:7b@f", "open", NOW, NOW + 9))
    here = news.health(OFFERING, NOW)
    there = news.health(KnownOffering("m:7b", "f", "m:7b"), NOW)
    assert model_status([here]) == "healthy"
    assert model_status([here, there]) == "degraded"
    assert model_status([there]) == model_status([]) == "unavailable"
    assert best_breaker([there, here]) == "closed"
    assert best_breaker([there]) == "open"
    assert there.open_until == NOW + 9


def test_the_services_verdict() -> None:
    assert service_verdict(essential=[True], desirable=[True, True]) == "healthy"
    assert service_verdict(essential=[True], desirable=[True, False]) == "degraded"
    assert service_verdict(essential=[True, False], desirable=[]) == "unhealthy"

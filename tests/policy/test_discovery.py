"""What endpoints offer finds its way into the catalogue, and leaves people's work alone."""

from decimal import Decimal
from typing import Any

import httpx
import pytest
import redis

from routing.models import Endpoint, Model, Offering, Origin
from routing.policy.discovery import discover_once, record
from routing.policy.export import policy_version
from routing.policy.metadata import Found
from routing.policy.seed import seed
from routing.simulator.models import Catalogue, HostSpec
from routing.simulator.models import Model as SimulatedModel
from telemetry import state_news
from telemetry.redis_names import STATE_LAST
from tests.engines import Engine
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.policy.catalogue import a_model, an_endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _empty_redis(redis_url: str) -> None:
    """Every test tells an empty Redis."""


def one(**fields: Any) -> Found:
    return Found(
        **{"name": "new:3b", "weights_bytes": 2_000_000_000, "parameters_b": 3.0, **fields}
    )


def test_a_new_installation_can_route_after_one_look(simulator: SimulatedHost) -> None:
    seed(ollama_url=simulator.url, simulated=True)
    seeded = Model.objects.count()
    (seen,) = discover_once().endpoints
    assert (seen.error, seen.version, seen.models) == ("", "0.0.0-simulated", 14)
    assert seen.models_added == ("llava:7b",)
    assert len(seen.offerings_added) == 14
    assert Model.objects.count() == seeded + 1
    embedding = Offering.objects.get(model__name="nomic-embed-text")
    assert embedding.upstream_model == "nomic-embed-text:latest"
    assert embedding.origin == Origin.DISCOVERY


@pytest.mark.django_db(transaction=True)
def test_a_second_look_changes_nothing(simulator: SimulatedHost) -> None:
    seed(ollama_url=simulator.url, simulated=True)
    discover_once()
    version = policy_version()
    (seen,) = discover_once("ollama").endpoints
    assert seen.models_added == seen.models_updated == seen.offerings_added == ()
    assert policy_version() == version


def test_an_unknown_model_gets_a_sensible_record(start_simulator: StartSimulator) -> None:
    model = SimulatedModel(
        name="mystery-coder:13b",
        size_gb=7.4,
        parameters=13_000_000_000,
        context_length=65_536,
        capabilities=("completion", "thinking"),
    )
    host = start_simulator(Catalogue(host=HostSpec(), models=(model,)), instant=True)
    an_endpoint(base_url=host.url)
    discover_once()
    found = Model.objects.get(name="mystery-coder:13b")
    assert found.capabilities == ["completion", "reasoning", "code", "analysis"]
    assert (found.quality_tier, found.speed, found.context_length) == ("high", "medium", 65_536)
    # 7.4 GB of weights, 32 layers x 8 heads x 128 at 4,096 tokens, 0.8 GB of surcharge.
    assert found.ram_required_gb == 8.8
    assert found.cost_per_1k_input_usd == 0
    assert found.best_for == ["reasoning"]


def test_workers_are_told_what_is_there(simulator: SimulatedHost, redis_url: str) -> None:
    httpx.post(f"{simulator.url}/api/generate", json={"model": "llama3.2:1b"}).raise_for_status()
    an_endpoint(base_url=simulator.url)
    discover_once()
    with redis.Redis.from_url(redis_url) as store:
        message = store.hget(STATE_LAST, "endpoint:desk")
    assert isinstance(message, bytes)
    news = state_news.decode(message)
    assert isinstance(news, state_news.EndpointNews)
    assert (news.up, news.simulated, news.loaded) == (True, True, ("llama3.2:1b",))
    assert news.loaded_mb[0] > 1321
    assert news.available is not None
    assert "nomic-embed-text:latest" in news.available


def test_a_real_openai_server_is_discovered(llama_server: Engine) -> None:
    an_endpoint(provider="openai", base_url=llama_server.base_url)
    (seen,) = discover_once().endpoints
    assert (seen.error, seen.models_added) == ("", (llama_server.model,))
    model = Model.objects.get()
    assert model.cost_per_1k_input_usd is None
    assert model.context_length >= 2048
    assert model.quality_tier == "basic"


def test_a_dead_endpoint_is_a_sentence_and_no_exception(redis_url: str) -> None:
    an_endpoint(base_url="http://127.0.0.1:9")
    (seen,) = discover_once().endpoints
    assert seen.error.startswith("Nothing answers at http://127.0.0.1:9/api/")


def test_what_a_person_edited_is_left_alone() -> None:
    endpoint = an_endpoint()
    model = a_model("new:3b", by=Origin.DISCOVERY, ram_required_gb=1.0, context_length=100)
    model.ram_required_gb = 9.5
    model.save()
    assert record(endpoint.name, [one(context_length=8192)]).models_updated == ("new:3b",)
    model.refresh_from_db()
    assert (model.ram_required_gb, model.context_length) == (9.5, 8192)


def test_what_was_edited_in_bulk_is_left_alone_too() -> None:
    endpoint = an_endpoint()
    a_model("new:3b", by=Origin.DISCOVERY)
    Model.objects.update(ram_required_gb=9.5)
    Model.objects.update(ram_required_gb=9.0, speed="slow")
    assert Model.objects.get().edited_fields == ["ram_required_gb", "speed"]
    record(endpoint.name, [one()])
    assert Model.objects.get().ram_required_gb == 9.0


def test_what_a_person_made_is_left_alone() -> None:
    endpoint = an_endpoint()
    a_model("new:3b", ram_required_gb=1.0, context_length=100)
    seen = record(endpoint.name, [one(context_length=8192)])
    assert (seen.models_updated, seen.offerings_added) == ((), ("new:3b",))
    assert Model.objects.get().context_length == 100


@pytest.mark.parametrize("known_as", ["solo", "solo:latest"])
@pytest.mark.parametrize("found_as", ["solo", "solo:latest"])
def test_the_default_tag_is_the_same_model(known_as: str, found_as: str) -> None:
    endpoint = an_endpoint()
    a_model(known_as)
    record(endpoint.name, [one(name=found_as)])
    assert Model.objects.count() == 1
    offering = Offering.objects.get()
    assert (offering.upstream_model or known_as) == found_as


def test_a_disabled_offering_stays_disabled() -> None:
    endpoint = an_endpoint()
    record(endpoint.name, [one()])
    Offering.objects.update(enabled=False)
    record(endpoint.name, [one()])
    assert not Offering.objects.get().enabled


def test_an_admins_own_name_for_an_upstream_model_is_honoured() -> None:
    endpoint = an_endpoint()
    house = a_model("house-model")
    Offering.objects.create(model=house, endpoint=endpoint, upstream_model="new:3b")
    assert record(endpoint.name, [one()]).models_added == ()
    assert Offering.objects.count() == 1


def test_two_builds_of_a_model_share_a_record_safe_for_both() -> None:
    small, big = an_endpoint("small"), an_endpoint("big")
    record(small.name, [one(context_length=8192)])
    record(big.name, [one(weights_bytes=8_000_000_000, context_length=4096)])
    need = Model.objects.get().ram_required_gb
    record(small.name, [one(context_length=8192)])
    assert (Model.objects.get().ram_required_gb, Model.objects.get().context_length) == (need, 4096)
    assert need > 8


@pytest.mark.parametrize("name", ["has blank", "auto", "auto:code", "x" * 201, "whisper-1", ""])
def test_names_that_cannot_be_routed_are_passed_over(name: str) -> None:
    endpoint = an_endpoint(provider="openai")
    assert record(endpoint.name, [one(name=name)]).models_added == ()


def test_a_price_an_admin_gave_stays(llama_server: Engine) -> None:
    an_endpoint(provider="openai", base_url=llama_server.base_url)
    a_model(llama_server.model, cost_per_1k_input_usd=Decimal("0.5"))
    discover_once()
    assert Model.objects.get().cost_per_1k_input_usd == Decimal("0.5")


def test_a_deleted_endpoint_is_no_fault() -> None:
    assert "deleted" in record("nobody", [one()]).error
    assert not Endpoint.objects.exists()

"""What a new installation knows, and what seeding again leaves alone."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from routing.models import Endpoint, FallbackChain, Model, Offering, RoutingProfile
from routing.policy.export import document_from_orm
from routing.policy.rules import FIELD_RULES, chain_members
from routing.policy.seed import seed, seed_models

pytestmark = pytest.mark.django_db

URL = "http://127.0.0.1:11434"


def seed_here(url: str = URL, *, simulated: bool = False) -> None:
    seed(ollama_url=url, simulated=simulated)


def test_a_new_installation_knows_models_chains_profiles_and_ollama() -> None:
    seed_here(simulated=True)
    document = document_from_orm()
    assert {"llama3.2:1b", "llama3.1:70b", "nomic-embed-text"} <= {m.name for m in document.models}
    assert {chain.for_task for chain in document.chains} == {
        "completion",
        "reasoning",
        "code",
        "analysis",
    }
    assert len(document.profiles) == 4
    (endpoint,) = document.endpoints
    assert (endpoint.base_url, endpoint.host, endpoint.simulated) == (URL, "local", True)
    assert document.offerings == ()


def test_what_is_seeded_follows_the_rules() -> None:
    seed_here()
    document = document_from_orm()
    models = {model.name: model for model in document.models}
    for chain in document.chains:
        assert list(chain_members(chain, models)) == []
    for model in document.models:
        for (kind, field), rule in FIELD_RULES.items():
            if kind is type(model):
                rule(getattr(model, field))
        assert model.cost_per_1k_input_usd == model.cost_per_1k_output_usd == 0
        assert model.ram_required_gb > 0
    assert set(models) == {model.name for model in seed_models()}


def test_seeding_again_does_nothing_in_two_queries() -> None:
    seed_here()
    before = document_from_orm()
    with CaptureQueriesContext(connection) as queries:
        seed_here()
    assert len(queries) == 2
    assert document_from_orm() == before


def test_edits_and_deletions_stay() -> None:
    seed_here()
    edited = Model.objects.get(name="llama3.2:1b")
    edited.quality_tier = "high"
    edited.save()
    FallbackChain.objects.all().delete()
    Model.objects.get(name="mistral:7b").delete()
    RoutingProfile.objects.filter(priority="low").update(cost_weight=9)
    seed_here("http://127.0.0.1:9999")
    assert Model.objects.get(name="llama3.2:1b").quality_tier == "high"
    assert not Model.objects.filter(name="mistral:7b").exists()
    assert not FallbackChain.objects.exists()
    assert RoutingProfile.objects.get(priority="low").cost_weight == 9


def test_the_endpoint_follows_the_setting_until_somebody_edits_it() -> None:
    seed_here(simulated=True)
    seed_here("http://gpu.example:11434/")
    endpoint = Endpoint.objects.get()
    assert (endpoint.base_url, endpoint.host, endpoint.simulated) == (
        "http://gpu.example:11434",
        "",
        False,
    )
    endpoint.base_url = "http://other.example:11434"
    endpoint.save()
    seed_here(simulated=True)
    endpoint.refresh_from_db()
    assert (endpoint.base_url, endpoint.simulated) == ("http://other.example:11434", False)


def test_other_edits_do_not_stop_it_following() -> None:
    seed_here()
    endpoint = Endpoint.objects.get()
    endpoint.region = "lab"
    endpoint.save()
    seed_here("http://127.0.0.1:5555")
    endpoint.refresh_from_db()
    assert (endpoint.base_url, endpoint.region) == ("http://127.0.0.1:5555", "lab")


def test_what_was_there_before_is_not_doubled() -> None:
    Model(name="nomic-embed-text:latest", capabilities=["embedding"], quality_tier="high").save()
    seed_here()
    assert not Model.objects.filter(name="nomic-embed-text").exists()
    assert not Offering.objects.exists()

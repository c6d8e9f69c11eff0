"""Committed changes of the policy arrive in Redis."""

import json
import logging
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
import redis
from django.db import connection, transaction

from routing.models import Model, PolicyVersion
from routing.policy import publish, snapshot
from routing.policy.export import document_from_orm, policy_version
from telemetry.redis_names import CAPABILITY, POLICY_CHANNEL, POLICY_SNAPSHOT, POLICY_VERSION
from tests.policy.catalogue import a_chain, a_model, an_endpoint, an_offering

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def store(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def published(store: Any) -> int:
    return int(store.get(POLICY_VERSION) or -1)


def test_a_save_publishes_the_whole_policy(store: Any) -> None:
    model = a_model(cost_per_1k_input_usd=Decimal("0.00015"))
    an_offering(model, an_endpoint(), num_ctx=8192, keep_alive="-1")
    a_chain("last resort", model, for_task="completion")
    assert snapshot.decode(store.get(POLICY_SNAPSHOT)) == document_from_orm()
    assert published(store) == policy_version()


def test_who_listens_is_told_the_version(store: Any) -> None:
    with store.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(POLICY_CHANNEL)
        assert pubsub.get_message(timeout=1) is None
        a_model()
        assert int(pubsub.get_message(timeout=1)["data"]) == policy_version()


def test_one_transaction_publishes_once(store: Any) -> None:
    with mock.patch.object(snapshot, "write", wraps=snapshot.write) as write:
        with transaction.atomic():
            for number in range(20):
                a_model(f"m{number}")
            assert not write.called
        assert write.call_count == 1
    assert len(snapshot.decode(store.get(POLICY_SNAPSHOT)).models) == 20


@pytest.mark.parametrize("by_bulk", ["update", "bulk_create", "delete"])
def test_bulk_writes_are_published(store: Any, by_bulk: str) -> None:
    a_model("seven")
    if by_bulk == "update":
        Model.objects.update(enabled=False)
    elif by_bulk == "bulk_create":
        Model.objects.bulk_create(
            [Model(name="eight", capabilities=["code"], quality_tier="basic")]
        )
    else:
        Model.objects.all().delete()
    assert published(store) == policy_version()
    assert snapshot.decode(store.get(POLICY_SNAPSHOT)) == document_from_orm()


def test_capability_records_follow_the_enabled_models(store: Any) -> None:
    kept = a_model(
        "kept",
        capabilities=["completion", "code"],
        cost_per_1k_input_usd=Decimal("0.001"),
        cost_per_1k_output_usd=Decimal("0.002"),
        ram_required_gb=4.5,
        best_for=["code"],
    )
    a_model("gone").delete()
    a_model("off", enabled=False)
    assert [key.decode() for key in store.keys(CAPABILITY + "*")] == [CAPABILITY + "kept"]
    assert json.loads(store.get(CAPABILITY + kept.name)) == {
        "model_name": "kept",
        "capabilities": ["completion", "code"],
        "ram_required_gb": 4.5,
        "speed": "medium",
        "cost_per_1k_tokens": 0.002,
        "quality_tier": "good",
        "best_for": ["code"],
    }


def test_an_unknown_price_is_never_free(store: Any) -> None:
    a_model("unpriced", cost_per_1k_input_usd=Decimal(0))
    assert json.loads(store.get(CAPABILITY + "unpriced"))["cost_per_1k_tokens"] is None


def test_saving_works_without_redis_and_the_keeper_makes_up_for_it(
    store: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    there = settings.REDIS_URL
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    with caplog.at_level(logging.WARNING):
        a_model()
    assert "Redis did not take it yet" in caplog.text
    assert Model.objects.count() == 1
    settings.REDIS_URL = there
    assert publish.publish_if_behind() == policy_version() == published(store)
    assert publish.publish_if_behind() is None


def test_what_was_written_past_django_is_published_by_the_keeper(store: Any) -> None:
    a_model()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE routing_model SET enabled = false")
    publish.publish_if_behind()
    assert snapshot.decode(store.get(POLICY_SNAPSHOT)) == document_from_orm()


def test_a_database_restored_from_a_backup_overtakes_redis(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    a_model()
    store.set(POLICY_VERSION, 500)
    assert publish.publish_if_behind() == 501
    assert published(store) == 501
    assert PolicyVersion.objects.get().version == 501
    assert "restored from a backup" in caplog.text

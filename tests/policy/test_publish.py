"""Committed changes of the policy arrive in Redis."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from decimal import Decimal
from unittest import mock

import pytest
import redis
from django.conf import LazySettings
from django.db import connection, transaction

from routing.engine.catalog import PolicyDocument
from routing.models import Model, PolicyVersion
from routing.policy import publish, snapshot
from routing.policy.database import then_close
from routing.policy.export import document_from_orm, policy_version
from telemetry.redis_names import CAPABILITY, POLICY_CHANNEL, POLICY_SNAPSHOT, POLICY_VERSION
from tests.policy.catalogue import a_chain, a_model, an_endpoint, an_offering

pytestmark = pytest.mark.django_db(transaction=True)


def published(store: redis.Redis) -> int:
    """Return the version that Redis has, -1 for none."""
    found = store.get(POLICY_VERSION)
    return int(found) if isinstance(found, bytes) else -1


def stored(store: redis.Redis) -> PolicyDocument:
    """Return the snapshot that Redis has."""
    found = store.get(POLICY_SNAPSHOT)
    assert isinstance(found, bytes)
    return snapshot.decode(found)


def record(store: redis.Redis, name: str) -> dict[str, object]:
    """Return a model's capability record in Redis."""
    found = store.get(CAPABILITY + name)
    assert isinstance(found, bytes)
    decoded: dict[str, object] = json.loads(found)
    return decoded


def test_a_save_publishes_the_whole_policy(store: redis.Redis) -> None:
    model = a_model(cost_per_1k_input_usd=Decimal("0.00015"))
    an_offering(model, an_endpoint(), num_ctx=8192, keep_alive="-1")
    a_chain("last resort", model, for_task="completion")
    assert stored(store) == document_from_orm()
    assert published(store) == policy_version()


def test_who_listens_is_told_the_version(store: redis.Redis) -> None:
    with store.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(POLICY_CHANNEL)
        assert pubsub.get_message(timeout=1) is None
        a_model()
        assert int(pubsub.get_message(timeout=1)["data"]) == policy_version()


def test_one_transaction_publishes_once(store: redis.Redis) -> None:
    with mock.patch.object(snapshot, "write", wraps=snapshot.write) as write:
        with transaction.atomic():
            for number in range(20):
                a_model(f"m{number}")
            assert not write.called
        assert write.call_count == 1
    assert len(stored(store).models) == 20


@pytest.mark.parametrize("by_bulk", ["update", "bulk_create", "delete"])
def test_bulk_writes_are_published(store: redis.Redis, by_bulk: str) -> None:
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
    assert stored(store) == document_from_orm()


def test_capability_records_follow_the_enabled_models(store: redis.Redis) -> None:
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
    assert list(store.scan_iter(CAPABILITY + "*")) == [f"{CAPABILITY}kept".encode()]
    assert record(store, kept.name) == {
        "model_name": "kept",
        "capabilities": ["completion", "code"],
        "ram_required_gb": 4.5,
        "speed": "medium",
        "cost_per_1k_tokens": 0.002,
        "quality_tier": "good",
        "best_for": ["code"],
    }


def test_an_unknown_price_is_never_free(store: redis.Redis) -> None:
    a_model("unpriced", cost_per_1k_input_usd=Decimal(0))
    assert record(store, "unpriced")["cost_per_1k_tokens"] is None


def test_saving_works_without_redis_and_the_keeper_makes_up_for_it(
    store: redis.Redis, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    there = settings.REDIS_URL
    settings.REDIS_URL = "unix:///nonexistent/redis.sock"
    with caplog.at_level(logging.WARNING):
        a_model()
    assert "could not be published yet" in caplog.text
    assert Model.objects.count() == 1
    settings.REDIS_URL = there
    assert publish.publish_if_behind() == policy_version() == published(store)
    assert publish.publish_if_behind() is None


def test_what_was_written_past_django_is_published_by_the_keeper(store: redis.Redis) -> None:
    a_model()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE routing_model SET enabled = false")
    publish.publish_if_behind()
    assert stored(store) == document_from_orm()


def test_a_database_restored_from_a_backup_overtakes_redis(
    store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    a_model()
    store.set(POLICY_VERSION, 500)
    assert publish.publish_if_behind() == 501
    assert published(store) == 501
    assert PolicyVersion.objects.get().version == 501
    assert "restored from a backup" in caplog.text


def test_a_slow_publisher_never_overwrites_a_newer_policy(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_model("old")
    reading, go_on = threading.Event(), threading.Event()
    write = snapshot.write

    def write_slowly(client: redis.Redis, document: PolicyDocument) -> None:
        if not reading.is_set():
            reading.set()
            go_on.wait(5)
        write(client, document)

    monkeypatch.setattr(snapshot, "write", write_slowly)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(then_close, publish.publish)
        assert reading.wait(5)
        newer = pool.submit(then_close, lambda: a_model("new"))
        # Time enough to overtake, if it could.
        wait([newer], timeout=0.5)
        go_on.set()
        slow.result(5)
        newer.result(5)
    assert published(store) == policy_version()
    assert len(stored(store).models) == 2

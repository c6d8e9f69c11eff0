"""The database counts a version for each transaction that changes the policy."""

import contextlib
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction

from routing.models import (
    ApiKey,
    Budget,
    HostCost,
    Model,
    Offering,
    Price,
    Savings,
    Tenant,
)
from routing.policy.export import policy_version
from routing.policy.publish import TABLES as PUBLISHED
from routing.policy.store import TABLES
from tests.policy.catalogue import a_model, an_endpoint, an_offering

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_save_and_deletion_counts_one() -> None:
    start = policy_version()
    model = a_model()
    model.quality_tier = "high"
    model.save()
    model.delete()
    assert policy_version() == start + 3


def test_many_changes_in_one_transaction_count_one() -> None:
    start = policy_version()
    with transaction.atomic():
        endpoint = an_endpoint()
        for number in range(5):
            an_offering(a_model(f"m{number}"), endpoint)
    assert policy_version() == start + 1


def test_what_changes_nothing_counts_nothing() -> None:
    model = a_model()
    start = policy_version()
    model.save()
    Model.objects.filter(name="nobody").update(enabled=False)
    Offering.objects.all().delete()
    assert policy_version() == start


def test_a_rolled_back_change_does_not_count() -> None:
    a_model()
    start = policy_version()
    with contextlib.suppress(IntegrityError), transaction.atomic():
        an_endpoint()
        a_model()
    assert policy_version() == start


def test_a_rolled_back_savepoint_does_not_swallow_the_count() -> None:
    start = policy_version()
    with transaction.atomic():
        with contextlib.suppress(IntegrityError), transaction.atomic():
            a_model("twice")
            a_model("twice")
        a_model("second")
    assert policy_version() == start + 1


def test_writing_past_django_counts_too() -> None:
    a_model()
    start = policy_version()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE routing_model SET enabled = false")
    assert policy_version() == start + 1


def test_every_table_of_the_policy_counts_and_publishes() -> None:
    assert set(TABLES.values()) <= set(PUBLISHED)
    when = datetime(2026, 12, 1, tzinfo=UTC)
    a_model()
    tenant = Tenant(name="acme")
    rows = [
        tenant,
        ApiKey(name="ci", tenant=tenant, prefix="ao_acme_", digest="0f" * 32),
        Price(model=Model.objects.get(), valid_from=when, input_per_1k_usd=1, output_per_1k_usd=1),
        HostCost(host="local", watts=1, energy_per_kwh_usd=1),
        Budget(name="b", scope="all", limit_usd=1),
        Savings(),
    ]
    for row in rows:
        before = policy_version()
        row.save()
        assert policy_version() == before + 1, row
    for row in reversed(rows):
        before = policy_version()
        row.delete()
        assert policy_version() == before + 1, row

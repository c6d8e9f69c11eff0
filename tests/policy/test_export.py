"""The tables as one value."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from routing.engine.catalog import PolicyDocument
from routing.models import Endpoint, Model, Offering
from routing.policy import export
from routing.policy.export import document_from_orm
from tests.policy.catalogue import a_chain, a_model, an_endpoint, an_offering

pytestmark = pytest.mark.django_db


def many_offerings(models: int, endpoints: int) -> None:
    Model.objects.bulk_create(
        Model(name=f"m{n:04}", capabilities=["code"], quality_tier="good") for n in range(models)
    )
    Endpoint.objects.bulk_create(
        Endpoint(name=f"e{n:02}", provider="openai", base_url=f"http://10.0.0.{n}:8000")
        for n in range(endpoints)
    )
    Offering.objects.bulk_create(
        Offering(model=model, endpoint=endpoint)
        for model in Model.objects.all()
        for endpoint in Endpoint.objects.all()
    )


def test_an_empty_policy_is_a_document() -> None:
    assert document_from_orm() == PolicyDocument(version=export.policy_version())


def test_chains_keep_their_order() -> None:
    first, second, third = (a_model(name) for name in ("zeta", "alpha", "mid"))
    a_chain("of zeta", second, third, for_model=first)
    (chain,) = document_from_orm().chains
    assert (chain.for_model, chain.for_task, chain.models) == ("zeta", None, ("alpha", "mid"))


def test_thousands_of_offerings_take_sixteen_queries() -> None:
    many_offerings(models=200, endpoints=10)
    a_chain("x", *Model.objects.all()[:50], for_task="code")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        document = document_from_orm()
    assert len(document.offerings) == 2000
    assert len(queries) == 16


def test_a_change_in_between_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read = export._read
    seen: list[int] = []

    def read_while_somebody_saves(version: int) -> PolicyDocument:
        document = read(version)
        if not seen:
            an_offering(a_model("late"), an_endpoint())
        seen.append(version)
        return document

    a_model("early")
    # Within the test's one transaction nothing more is counted, so the count is played.
    versions = iter([1, 2, 2, 2])
    monkeypatch.setattr(export, "policy_version", lambda: next(versions))
    monkeypatch.setattr(export, "_read", read_while_somebody_saves)
    document: Any = document_from_orm()
    assert seen == [1, 2]
    assert [model.name for model in document.models] == ["early", "late"]

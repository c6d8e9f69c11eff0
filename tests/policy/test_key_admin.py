"""Tenants, keys, prices and budgets in the admin; a token is shown once."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from routing.models import ApiKey, Budget, HostCost, Price, Savings, Tenant
from routing.policy import tokens
from routing.policy.export import document_from_orm
from routing.policy.issuing import create_key
from tests.policy.catalogue import a_model, an_endpoint

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_client(client: Client) -> Client:
    client.force_login(User.objects.create(username="ada", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def acme() -> Tenant:
    return Tenant.objects.create(name="acme")


def url(noun: str, page: str, *args: object) -> str:
    return reverse(f"admin:routing_{noun}_{page}", args=args)


def complaints(response: Any) -> str:
    assert response.status_code == 200, "the form was accepted"
    page: str = response.content.decode()
    return page.replace("&#x27;", "'")


def test_the_token_is_shown_once(admin_client: Client, acme: Tenant) -> None:
    form = {"name": "ci", "tenant": acme.pk, "enabled": "on", "expires_at_0": "2030-01-01",
            "expires_at_1": "00:00:00", "allowed_models": "", "tokens_per_day": "1000"}  # fmt: skip
    answer = admin_client.post(url("apikey", "add"), form)
    assert answer.status_code == 200
    token = answer.context["token"]
    assert token in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    key = ApiKey.objects.get()
    found = tokens.digest(token.encode(), tokens.digest_key(settings.SECRET_KEY))
    assert key.digest == found.hex()
    assert token.startswith(key.prefix)
    assert (key.tokens_per_day, key.expires_at) == (1000, datetime(2030, 1, 1, tzinfo=UTC))
    pages = [url("apikey", "changelist"), url("apikey", "change", key.pk)]
    pages.append(url("apikey", "history", key.pk))
    told = "".join(admin_client.get(page).content.decode() for page in pages)
    assert key.prefix in told
    assert token not in told
    kept = [str(entry.__dict__) for entry in LogEntry.objects.all()]
    kept += [str(session.get_decoded()) for session in Session.objects.all()]
    kept += [cookie.value for cookie in admin_client.cookies.values()]
    assert [text for text in kept if token in text] == []
    assert key.digest not in told


def test_a_key_stays_its_tenants(admin_client: Client, acme: Tenant) -> None:
    other = Tenant.objects.create(name="other")
    key, _ = create_key(name="ci", tenant=acme, actor="ada")
    form = {"name": "ci", "tenant": other.pk, "enabled": "on", "allowed_models": ""}
    assert admin_client.post(url("apikey", "change", key.pk), form).status_code == 302
    key.refresh_from_db()
    assert key.tenant == acme
    assert LogEntry.objects.count() == 2


def test_models_that_nobody_knows_are_refused(admin_client: Client, acme: Tenant) -> None:
    a_model("llama3.2:3b")
    form = {"name": "ci", "tenant": acme.pk, "enabled": "on", "allowed_models": "llama3.2:3c"}
    refused = complaints(admin_client.post(url("apikey", "add"), form))
    assert "There is no model llama3.2:3c; did you mean llama3.2:3b?" in refused
    tenant = {"name": "beta", "share": "1", "enabled": "on", "allowed_models": "llama3.2:3b"}
    assert admin_client.post(url("tenant", "add"), tenant).status_code == 302
    spec = next(t for t in document_from_orm().tenants if t.name == "beta")
    assert spec.allowed_models == ("llama3.2:3b",)


def test_deleting_a_model_does_not_widen_a_list(acme: Tenant) -> None:
    model = a_model("only")
    key, _ = create_key(name="ci", tenant=acme, allowed_models=["only"], actor="ada")
    model.delete()
    (spec,) = document_from_orm().keys
    assert spec.allowed_models == ("only",)


def test_a_price_has_a_date(admin_client: Client) -> None:
    model = a_model()
    form = {"model": model.pk, "valid_from_0": "2026-12-01", "valid_from_1": "00:00:00",
            "input_per_1k_usd": "0.00015", "output_per_1k_usd": "0.0006",
            "cached_input_per_1k_usd": "", "embedding_per_1k_usd": "",
            "per_request_usd": "0"}  # fmt: skip
    assert admin_client.post(url("price", "add"), form).status_code == 302
    refused = complaints(admin_client.post(url("price", "add"), form))
    assert "This model has a price from that moment on" in refused
    price = Price.objects.get()
    assert str(price) == "llama3.2:3b@2026-12-01T00:00:00Z"
    assert document_from_orm().prices[0].output_per_1k_usd == Decimal("0.0006")


@pytest.mark.parametrize("day", ["0001-01-01", "1900-01-01", "9999-12-31"])
def test_a_date_that_no_policy_file_may_have_is_refused(
    admin_client: Client, acme: Tenant, day: str
) -> None:
    price = {"model": a_model().pk, "valid_from_0": day, "valid_from_1": "00:00:00",
             "input_per_1k_usd": "1", "output_per_1k_usd": "1", "per_request_usd": "0"}  # fmt: skip
    key = {"name": "ci", "tenant": acme.pk, "enabled": "on", "expires_at_0": day,
           "expires_at_1": "00:00:00", "allowed_models": ""}  # fmt: skip
    for noun, form in (("price", price), ("apikey", key)):
        refused = complaints(admin_client.post(url(noun, "add"), form))
        assert "Write a year from 2000 to 2199." in refused
    assert (Price.objects.count(), ApiKey.objects.count()) == (0, 0)


BUDGET = {
    "name": "b", "scope": "tenant", "subject": "acme", "period": "month", "time_zone": "UTC",
    "limit_usd": "12.5", "hard": "on", "thresholds": "50,100", "when_exhausted": "refuse",
    "enabled": "on",
}  # fmt: skip


def test_a_budget_is_added(admin_client: Client, acme: Tenant) -> None:
    assert admin_client.post(url("budget", "add"), BUDGET).status_code == 302
    (spec,) = document_from_orm().budgets
    assert (spec.limit_usd, spec.thresholds) == (Decimal("12.5"), (50, 100))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"subject": "acne"}, "There is no tenant acne; did you mean acme?"),
        ({"subject": ""}, "Name the tenant that this budget is for."),
        ({"scope": "all"}, "The scope `all` has no subject; leave it out."),
        ({"scope": "task", "subject": "cod"}, "A task type is one of completion,"),
        ({"scope": "tag", "subject": "=team"}, "A tag has at most 100 characters: printable ASCII"),
        ({"scope": "tag", "subject": "équipe"}, "A tag has at most 100 characters"),
        ({"scope": "tag", "subject": "t" * 101}, "A tag has at most 100 characters"),
        ({"time_zone": "Mars/Base"}, "Write a time zone's name"),
        ({"limit_usd": "-1"}, "An amount is dollars, from 0"),
        ({"thresholds": "50,50"}, "Name each threshold once"),
        ({"thresholds": "80,50"}, "the least first"),
        ({"when_exhausted": "warn"}, "A hard budget cannot only warn"),
    ],
)
def test_a_wrong_budget_is_refused(
    admin_client: Client, acme: Tenant, change: dict[str, str], complaint: str
) -> None:
    refused = complaints(admin_client.post(url("budget", "add"), {**BUDGET, **change}))
    assert complaint in refused.replace("&quot;", '"')
    assert not Budget.objects.exists()


def test_there_is_one_baseline(admin_client: Client) -> None:
    a_model("dear")
    assert admin_client.post(url("savings", "add"), {"baseline": "dear"}).status_code == 302
    assert admin_client.get(url("savings", "add")).status_code == 403
    row = Savings.objects.get()
    refused = admin_client.post(url("savings", "change", row.pk), {"baseline": "deer"})
    assert "did you mean dear?" in complaints(refused)
    assert document_from_orm().savings.baseline == "dear"


@pytest.mark.parametrize("noun", ["tenant", "apikey", "price", "hostcost", "budget", "savings"])
def test_every_page_opens(admin_client: Client, acme: Tenant, noun: str) -> None:
    create_key(name="ci", tenant=acme, actor="ada")
    Price.objects.create(model=a_model(), valid_from=datetime(2026, 1, 1, tzinfo=UTC),
                         input_per_1k_usd=1, output_per_1k_usd=2)  # fmt: skip
    HostCost.objects.create(host="local", watts=300, energy_per_kwh_usd=Decimal("0.25"))
    Budget.objects.create(name="b", scope="all", limit_usd=5)
    Savings.objects.create()
    tables = {"tenant": Tenant, "apikey": ApiKey, "price": Price, "hostcost": HostCost,
              "budget": Budget, "savings": Savings}  # fmt: skip
    row = tables[noun].objects.first()  # type: ignore[attr-defined]
    assert admin_client.get(url(noun, "changelist")).status_code == 200
    assert admin_client.get(url(noun, "change", row.pk)).status_code == 200
    if noun != "savings":
        assert admin_client.get(url(noun, "add")).status_code == 200


@pytest.mark.parametrize("noun", ["tenant", "apikey", "model", "endpoint", "budget"])
def test_a_name_that_others_go_by_stays(admin_client: Client, acme: Tenant, noun: str) -> None:
    key, _ = create_key(name="ci", tenant=acme, actor="ada")
    budget = Budget.objects.create(name="b", scope="tenant", subject="acme", limit_usd=5)
    rows: dict[str, Any] = {"tenant": acme, "apikey": key, "model": a_model(),
                            "endpoint": an_endpoint(), "budget": budget}  # fmt: skip
    row, before = rows[noun], rows[noun].name
    page = admin_client.get(url(noun, "change", row.pk))
    assert "name" not in page.context["adminform"].form.fields
    assert "The name stays" in page.content.decode()
    admin_client.post(url(noun, "change", row.pk), {"name": "renamed"})
    row.refresh_from_db()
    assert row.name == before
    assert "name" in admin_client.get(url(noun, "add")).context["adminform"].form.fields


@pytest.mark.parametrize("noun", ["tenant", "apikey"])
def test_a_limit_of_nothing_is_refused(admin_client: Client, acme: Tenant, noun: str) -> None:
    key, _ = create_key(name="ci", tenant=acme, actor="ada")
    page = url(noun, "change", acme.pk if noun == "tenant" else key.pk)
    form = {"share": "1", "enabled": "on", "allowed_models": "", "requests_per_minute": "0"}
    refused = complaints(admin_client.post(page, form))
    assert "Ensure this value is greater than or equal to 1." in refused
    assert "no limits" in refused


@pytest.mark.parametrize("change", [{"time_zone": "Mars/Base"}, {"limit_usd": "-1"}])
def test_a_wrong_change_of_a_budget_is_refused(
    admin_client: Client, acme: Tenant, change: dict[str, str]
) -> None:
    budget = Budget.objects.create(name="b", scope="tenant", subject="acme", limit_usd=5)
    page = url("budget", "change", budget.pk)
    assert "$0.00 of $5.00 spent" in complaints(admin_client.post(page, {**BUDGET, **change}))


def test_a_tenant_is_not_mistaken_for_another(admin_client: Client, acme: Tenant) -> None:
    form = {"name": "ACME", "share": "1", "enabled": "on", "allowed_models": ""}
    refused = complaints(admin_client.post(url("tenant", "add"), form))
    assert "There is a tenant acme already" in refused
    form["share"] = "2"
    assert admin_client.post(url("tenant", "change", acme.pk), form).status_code == 302

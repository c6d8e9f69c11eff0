"""Who spends and how much, in the policy file."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from routing.models import ApiKey, Budget, Price, Tenant
from routing.policy.export import document_from_orm
from routing.policy.file import apply_policy, check_policy, export_policy
from tests.policy.catalogue import a_model

pytestmark = pytest.mark.django_db

DIGEST = "ab" * 32
OTHER = "cd" * 32
FILE = f"""
tenants:
  - name: acme
    allowed_models: [small]
    share: 2
    requests_per_minute: 600
keys:
  - name: ci
    tenant: acme
    prefix: ao_acme_Ab3dE6
    digest: {DIGEST}
    expires_at: 2027-01-31T00:00:00+01:00
prices:
  - model: small
    valid_from: 2026-12-01T00:00:00Z
    input_per_1k_usd: 0.00015
    output_per_1k_usd: 0.0006
    cached_input_per_1k_usd: 0.000075
host_costs:
  - host: local
    watts: 350
    energy_per_kwh_usd: 0.28
    hardware_usd: 4000
budgets:
  - name: acme, a month
    scope: tenant
    subject: acme
    time_zone: Europe/Zurich
    limit_usd: 250
  - name: nightly work
    scope: tag
    subject: nightly
    period: day
    limit_usd: 0.5
    hard: false
    thresholds: [90]
savings:
  baseline: small
"""


def applied(text: str) -> str:
    report = apply_policy(text, actor="ada")
    assert report.ok, report.text()
    return report.text()


def errors(text: str) -> list[str]:
    return [str(error) for error in check_policy(text).errors]


def test_a_file_says_who_spends() -> None:
    a_model("small")
    assert "added   prices small@2026-12-01T00:00:00Z" in applied(FILE)
    document = document_from_orm()
    (tenant,), (key,), (price,) = document.tenants, document.keys, document.prices
    assert (tenant.share, tenant.requests_per_minute, tenant.allowed_models) == (2, 600, ("small",))
    assert (key.tenant, key.digest) == ("acme", DIGEST)
    assert key.expires_at == datetime(2027, 1, 30, 23, tzinfo=UTC)
    assert price.cached_input_per_1k_usd == Decimal("0.000075")
    assert [budget.name for budget in document.budgets] == ["acme, a month", "nightly work"]
    assert document.host_costs[0].lifetime_h == 26_280
    assert document.savings.baseline == "small"


def test_applying_again_and_applying_an_export_change_nothing() -> None:
    a_model("small")
    applied(FILE)
    assert check_policy(FILE).changes == ()
    assert check_policy(export_policy()).changes == ()
    assert export_policy().count(DIGEST) == 1


def test_changes_are_told_and_made() -> None:
    a_model("small")
    applied(FILE)
    changed = FILE.replace("share: 2", "share: 3").replace("baseline: small", "baseline: ''")
    changed = changed.replace(DIGEST, OTHER).replace("limit_usd: 250", "limit_usd: 99")
    told = applied(changed.replace("0.0006", "0.0005"))
    for line in (
        "share: 2.0 -> 3.0",
        "changed keys ci",
        "limit_usd: 250.000000000 -> 99",
        "changed prices small@2026-12-01T00:00:00Z",
        "baseline: small -> (empty)",
    ):
        assert line in told
    assert ApiKey.objects.get().digest == OTHER
    assert document_from_orm().savings.baseline == ""


def test_two_keys_may_swap_their_digests() -> None:
    keys = "tenants: [{{name: acme}}]\nkeys:\n" + "".join(
        f"  - {{{{name: {name}, tenant: acme, prefix: ao_acme_, digest: {{{at}}}}}}}\n"
        for at, name in enumerate(("one", "two"))
    )
    applied(keys.format(DIGEST, OTHER))
    applied(keys.format(OTHER, DIGEST))
    assert ApiKey.objects.get(name="one").digest == OTHER


def test_pruning_takes_what_goes_with_it() -> None:
    a_model("small")
    applied(FILE)
    applied("{prune: true, tenants: [], models: [], budgets: [], savings: {}}")
    assert not Tenant.objects.exists()
    assert not ApiKey.objects.exists()
    assert not Price.objects.exists()
    assert not Budget.objects.exists()
    assert document_from_orm().host_costs  # a section that the file has not


WRONG: list[tuple[Callable[[str], str], str]] = [
    (lambda f: f.replace("[90]", "[90, 50]"), "thresholds: Name each threshold once, the least"),
    (
        lambda f: f.replace("keys:", "  - name: ACME\nkeys:"),
        "tenants[1].name: There is a tenant acme already",
    ),
    (lambda f: f.replace("tenant: acme", "tenant: acne"), "keys[0].tenant: There is no tenant"),
    (lambda f: f.replace("[small]", "[smal]"), "allowed_models[0]: There is no model smal; did"),
    (lambda f: f.replace("subject: acme", "subject: acne"), "budgets[0].subject: There is no ten"),
    (lambda f: f.replace("model: small", "model: smal"), "prices[0].model: There is no model smal"),
    (lambda f: f.replace("baseline: small", "baseline: x"), "savings.baseline: There is no model"),
    (lambda f: f.replace("baseline", "base_line"), "savings.base_line: Unknown field; did you"),
    (lambda f: f.replace(DIGEST, "ao_acme_token"), "keys[0].digest: Expected text matching"),
    (lambda f: f.replace("+01:00", ""), "keys[0].expires_at: Say in which time zone"),
    (lambda f: f.replace("12-01T00", "13-01T00"), "valid_from: Invalid date and time; write 20"),
    (lambda f: f.replace("limit_usd: 250", "limit_usd: -1"), "limit_usd: An amount is dollars"),
    (lambda f: f.replace("budgets:", "budget:"), "budget: Unknown field; did you mean budgets?"),
    (lambda f: f.replace("Zurich", "Zürich"), "time_zone: Write a time zone's name"),
    (lambda f: f.replace("scope: tag", "scope: all"), "budgets[1].subject: The scope `all` has"),
    (lambda f: f.replace("scope: tag", "scope: tags"), "budgets[1].scope: Unknown value tags; did"),
    (lambda f: f.replace("share: 2", "share: 0"), "tenants[0].share: Expected a number > 0"),
    (lambda f: f.replace("600", "0"), "requests_per_minute: Expected a whole number >= 1"),
]


@pytest.mark.parametrize(("wrong", "complaint"), WRONG, ids=[c for _, c in WRONG])
def test_what_is_wrong_is_named(wrong: Callable[[str], str], complaint: str) -> None:
    a_model("small")
    found = errors(wrong(FILE))
    assert [error for error in found if complaint in error], found


def test_one_digest_is_one_key() -> None:
    again = f"  - {{name: again, tenant: acme, prefix: ao_, digest: {DIGEST}}}\n"
    twice = FILE.replace("prices:\n", f"{again}prices:\n")
    a_model("small")
    assert "ci and again are the same key; keep one." in " ".join(errors(twice))


def test_names_that_went_missing_since_are_a_warning() -> None:
    """What was stored can be exported and applied again, whatever was deleted since."""
    model = a_model("small")
    applied(FILE)
    model.delete()
    Tenant.objects.get().delete()
    report = check_policy(export_policy())
    assert report.ok, report.text()
    assert report.changes == ()
    told = " ".join(map(str, report.warnings))
    assert "budgets[0].subject: There is no tenant acme." in told
    assert "savings.baseline: There is no model small." in told


def test_a_section_of_one_object_is_no_list() -> None:
    assert errors("savings: [{baseline: x}]") == ["line 1: savings: Write a mapping of fields."]
    assert errors("savings:") == ["line 1: savings: Write a mapping of fields."]


def test_a_key_in_a_report_is_its_digest_only() -> None:
    a_model("small")
    applied(FILE)
    report: Any = check_policy(FILE.replace(DIGEST, OTHER))
    assert f"digest: {DIGEST} -> {OTHER}" in report.text()

"""What passes the rules fits the tables; what does not is refused in a sentence."""

from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from routing.policy.parsing import Parsed
from routing.policy.store import TABLES
from routing.policy.tables import KINDS, SINGLE

GOOD: dict[str, dict[str, Any]] = {
    "models": {"name": "m", "capabilities": ["code"], "quality_tier": "good"},
    "endpoints": {"name": "e", "provider": "openai", "base_url": "https://host/v1"},
    "offerings": {"model": "m", "endpoint": "e"},
    "chains": {"name": "c", "for_model": "m", "models": ["n"]},
    "tenants": {"name": "acme"},
    "keys": {"name": "ci", "tenant": "acme", "prefix": "ao_acme_", "digest": "0f" * 32},
    "prices": {
        "model": "m",
        "valid_from": "2026-12-01T00:00:00Z",
        "input_per_1k_usd": 1,
        "output_per_1k_usd": 1,
    },
    "host_costs": {"host": "local", "watts": 300, "energy_per_kwh_usd": 0.25},
    "budgets": {"name": "b", "scope": "tag", "subject": "t", "limit_usd": 5},
    "savings": {"baseline": "m"},
}
TOO_LONG: dict[tuple[str, str], Any] = {
    ("models", "name"): "x" * 201,
    ("models", "best_for"): ["u" * 61],
    ("endpoints", "name"): "e" * 101,
    ("endpoints", "base_url"): "http://" + "h" * 500,
    ("endpoints", "api_key_ref"): "file:/" + "p" * 500,
    ("endpoints", "host"): "h" * 101,
    ("endpoints", "region"): "r" * 101,
    ("offerings", "upstream_model"): "m" * 201,
    ("offerings", "keep_alive"): "1h" * 20,
    ("chains", "name"): "c" * 201,
    ("tenants", "name"): "t" * 101,
    ("tenants", "allowed_models"): ["two words"],
    ("keys", "name"): "k" * 101,
    ("keys", "prefix"): "ao_" + "p" * 40,
    ("keys", "digest"): "0" * 65,
    ("host_costs", "host"): "h" * 101,
    ("budgets", "name"): "b" * 201,
    ("budgets", "subject"): "s" * 201,
    ("budgets", "time_zone"): "Z" * 61,
    ("savings", "baseline"): "m" * 201,
}


def problems(kind: str, **fields: Any) -> list[str]:
    given = {**GOOD[kind], **fields}
    section = given if kind in SINGLE else [given]
    return [problem.path for problem in Parsed({kind: section}).problems]


@pytest.mark.parametrize("kind", GOOD)
def test_the_good_ones_are_good(kind: str) -> None:
    assert problems(kind) == []


@pytest.mark.parametrize(
    ("kind", "field", "bad"),
    [
        *((*where, bad) for where, bad in TOO_LONG.items()),
        ("models", "name", "with\nbreak"),
        ("models", "name", "\ud800"),
        ("models", "name", "nul\0"),
        ("models", "context_length", 2**31),
        ("models", "ram_required_gb", float("nan")),
        ("models", "kv_mb_per_1k_tokens", -1.0),
        ("models", "cost_per_1k_input_usd", 1e9),
        ("models", "best_for", ["tab\t"]),
        ("models", "best_for", ["x"] * 51),
        ("endpoints", "api_key_ref", "file:/a\nb"),
        ("endpoints", "max_concurrency", 0),
        ("endpoints", "max_queue", -1),
        ("endpoints", "min_residency_s", float("inf")),
        ("endpoints", "base_url", "http://host:99999"),
        ("endpoints", "base_url", "http://[::1"),
        ("endpoints", "base_url", "http://host/a b"),
        ("endpoints", "base_url", "http://[fe80::1]/"),
        ("offerings", "upstream_model", "\u200b"),
        ("offerings", "keep_alive", "\u0665m"),
        ("offerings", "num_ctx", 2**31),
        ("chains", "name", " blank first"),
        ("tenants", "name", "two words"),
        ("tenants", "share", 0.0),
        ("tenants", "share", float("nan")),
        ("tenants", "requests_per_day", 10**13),
        ("keys", "digest", "0F" * 32),
        ("keys", "prefix", "ao_\0"),
        ("keys", "expires_at", "2026-12-01"),
        ("keys", "expires_at", "9999-12-31T23:59:59-14:00"),
        ("prices", "valid_from", "2026-12-01T00:00:00"),
        ("prices", "per_request_usd", -1.0),
        ("prices", "input_per_1k_usd", "1e-10"),
        ("host_costs", "watts", float("inf")),
        ("budgets", "limit_usd", 1e10),
        ("budgets", "limit_usd", "NaN"),
        ("budgets", "thresholds", [0]),
        ("budgets", "thresholds", list(range(1, 30))),
        ("budgets", "time_zone", "../../etc/passwd"),
        ("budgets", "subject", "nul\0"),
    ],
)
def test_what_the_tables_cannot_hold_is_refused(kind: str, field: str, bad: Any) -> None:
    (path,) = problems(kind, **{field: bad})
    assert path.startswith(f"{kind}.{field}" if kind in SINGLE else f"{kind}[0].{field}")


def test_every_text_is_bounded_as_its_column_is() -> None:
    for kind, spec in KINDS.items():
        for name in spec.__struct_fields__:
            try:
                column = TABLES[kind]._meta.get_field(name)
            except FieldDoesNotExist:
                continue
            if isinstance(column, models.CharField) and not column.choices:
                assert (kind, name) in TOO_LONG

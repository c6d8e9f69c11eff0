"""What passes the rules fits the tables; what does not is refused in a sentence."""

from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from routing.policy.parsing import Parsed
from routing.policy.store import TABLES
from routing.policy.tables import KINDS

GOOD: dict[str, dict[str, Any]] = {
    "models": {"name": "m", "capabilities": ["code"], "quality_tier": "good"},
    "endpoints": {"name": "e", "provider": "openai", "base_url": "https://host/v1"},
    "offerings": {"model": "m", "endpoint": "e"},
    "chains": {"name": "c", "for_model": "m", "models": ["n"]},
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
}


def problems(kind: str, **fields: Any) -> list[str]:
    return [problem.path for problem in Parsed({kind: [{**GOOD[kind], **fields}]}).problems]


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
    ],
)
def test_what_the_tables_cannot_hold_is_refused(kind: str, field: str, bad: Any) -> None:
    (path,) = problems(kind, **{field: bad})
    assert path.startswith(f"{kind}[0].{field}")


def test_every_text_is_bounded_as_its_column_is() -> None:
    for kind, spec in KINDS.items():
        for name in spec.__struct_fields__:
            try:
                column = TABLES[kind]._meta.get_field(name)
            except FieldDoesNotExist:
                continue
            if isinstance(column, models.CharField) and not column.choices:
                assert (kind, name) in TOO_LONG

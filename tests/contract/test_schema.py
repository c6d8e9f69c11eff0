"""What the OpenAPI document says of keys, path by path."""

from collections.abc import Iterator
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

PROBES = ("/livez", "/readyz")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(  # type: ignore[no-untyped-call]
        request=None, public=True
    )
    return made


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_whatever_asks_for_a_key_says_so(schema: dict[str, Any]) -> None:
    told = {path for path, _, _ in operations(schema)}
    assert {"/v1/models", "/api/v1/health", "/api/v1/ai/breakers/reset", *PROBES} <= told
    for path, method, operation in operations(schema):
        ways = operation["security"]
        if path in PROBES:
            assert ways == []
            continue
        assert "401" in operation["responses"], (method, path)
        assert ways.count({"apiKey": []}) == 1, (method, path)
        assert ways.count({}) == 1, (method, path)


def test_a_reset_may_be_forbidden(schema: dict[str, Any]) -> None:
    assert "403" in schema["paths"]["/api/v1/ai/breakers/reset"]["post"]["responses"]

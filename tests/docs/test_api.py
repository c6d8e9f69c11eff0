"""docs/api.md says everything that the code offers: paths, fields, bounds, words, codes."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from drf_spectacular.generators import SchemaGenerator

from routing.api.problems import CODES
from routing.engine.errors import ProviderError, RoutingError
from routing.engine.refusal import REASONS
from routing.lanes import contracts
from routing.lanes.drafts import WORKER_LOST
from routing.lanes.exchange import CALLER_LEFT
from routing.lanes.problems import TITLES, bad_request
from routing.lanes.table import BY_ROUTE
from telemetry.record import HEDGE_LOST
from tests.docs.markdown import document

API = document("docs/api.md")
WORDS = set(re.findall(r"\w+", " ".join(API.code)))
GENERATOR = SchemaGenerator()  # type: ignore[no-untyped-call]
SCHEMA: dict[str, Any] = GENERATOR.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
COMPONENTS: dict[str, Any] = SCHEMA["components"]["schemas"]
NATIVE = (contracts.SelectRequest, contracts.SelectRequirements, contracts.RouteRequest,
          contracts.RouteRequirements)  # fmt: skip


def _raised(kind: type[RoutingError]) -> Iterator[type[RoutingError]]:
    """Yield the errors of the tree that are raised themselves, not only caught by their base."""
    for one in kind.__subclasses__():
        if one is not ProviderError:
            yield one
        yield from _raised(one)


CODES_IN_USE = {*TITLES, *CODES.values(), *REASONS, CALLER_LEFT, WORKER_LOST, HEDGE_LOST}
CODES_IN_USE |= {kind.code for kind in _raised(RoutingError)}


def test_every_operation_has_its_place() -> None:
    served = {
        f"{method.upper()} {path}"
        for path, operations in SCHEMA["paths"].items()
        for method in operations
    }
    titles = "\n".join(re.findall(r"^## (.+)$", API.text, re.MULTILINE))
    assert {operation for operation in served if operation not in titles} == set()


def test_every_query_parameter_is_described() -> None:
    parameters = {
        parameter["name"]
        for operations in SCHEMA["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
    }
    assert {name for name in parameters if not list(API.rows(name))} == set()


@pytest.mark.parametrize("component", sorted(COMPONENTS))
def test_every_field_and_word_is_mentioned(component: str) -> None:
    schema = COMPONENTS[component]
    named = {*schema.get("properties", ()), *_values(schema)}
    assert {word for word in named if not set(re.findall(r"\w+", word)) <= WORDS} == set()


@pytest.mark.parametrize("contract", NATIVE, ids=lambda c: c.__name__)
def test_rows_of_the_native_contracts_state_their_bounds(contract: type[msgspec.Struct]) -> None:
    prefix = "requirements." if "Requirements" in contract.__name__ else ""
    for field in msgspec.inspect.type_info(contract).fields:  # type: ignore[attr-defined]
        rows = list(API.rows(prefix + field.encode_name))
        assert rows, f"{field.encode_name} has no row"
        for wanted in _bounds(field.type):
            assert wanted in rows[0], f"{field.encode_name}: {wanted}"


def test_every_error_code_is_described() -> None:
    assert {code for code in CODES_IN_USE if not list(API.rows(code))} == set()


def test_no_code_is_described_that_does_not_exist() -> None:
    tables = API.prose.partition("| code | status |")[2]
    described = set(re.findall(r"^\| `([a-z_]+)` \|", tables, re.MULTILINE))
    assert described - CODES_IN_USE == set()


@pytest.mark.parametrize("block", API.blocks("json"))
def test_examples_are_json(block: str) -> None:
    json.loads(block)


def test_example_requests_mean_what_the_text_says() -> None:
    seen = 0
    for words in map(shlex.split, _commands()):
        if "-d" not in words:
            continue
        path = next(w for w in words if w.startswith("http")).removeprefix("http://127.0.0.1:8080")
        body = words[words.index("-d") + 1].encode()
        contract = BY_ROUTE[("POST", path)].request
        if b'"maxToken"' in body:
            with pytest.raises(msgspec.ValidationError) as refused:
                msgspec.json.decode(body, type=contract)
            assert str(bad_request(refused.value, contract)) in API.text
        else:
            msgspec.json.decode(body, type=contract)
        seen += 1
    assert seen >= 4


def _commands() -> Iterator[str]:
    for block in API.blocks("console"):
        yield from block.replace("\\\n", " ").removeprefix("$ ").split("\n$ ")


def _values(schema: Any) -> Iterator[str]:
    """Yield the words that a schema allows, at any depth."""
    if isinstance(schema, dict):
        yield from (v for v in schema.get("enum", ()) if isinstance(v, str) and v)
        for below in schema.values():
            yield from _values(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from _values(below)


def _bounds(kind: Any) -> Iterator[str]:
    if isinstance(kind, msgspec.inspect.Metadata):
        yield from _bounds(kind.type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from _bounds(one)
    elif isinstance(kind, msgspec.inspect.LiteralType):
        yield from (f"`{value}`" for value in kind.values)
    elif getattr(kind, "ge", None) is not None:
        yield f"{kind.ge:,} to {kind.le:,}"

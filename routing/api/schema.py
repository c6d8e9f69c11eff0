"""Adds the lanes to the OpenAPI schema, from the table and the contract types they are made of."""

from collections.abc import Iterator
from typing import Any

import msgspec

from routing.lanes.table import LANES, Lane

REF = "#/components/schemas/{name}"
MEANINGS: dict[int, str] = {
    400: "The request is not valid; the offending field is named.",
    401: "There is no valid API key.",
    402: "Money does not allow it.",
    403: "The API key may not use the model.",
    404: "The model is not in the catalogue.",
    409: "The first request with this Idempotency-Key has no answer that can be repeated.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "No model's context holds it, or its Idempotency-Key was used for another request.",
    429: "A limit of the key or its tenant is used up; Retry-After says when to ask again.",
    500: "A fault of this service.",
    502: "Every permitted model was tried and failed.",
    503: "No model can take it now; Retry-After says when to ask again.",
    504: "The deadline passed.",
}

# The empty one: without a key, where none is required.
_SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {}]
_IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Carry this request out once, however often it is sent with this key.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def add_lanes(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """drf-spectacular hook: put every lane and probe into the schema."""
    types = list(dict.fromkeys(_types()))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = dict(zip(types, schemas, strict=True))
    result.setdefault("components", {}).setdefault("schemas", {}).update(components)
    for lane in LANES:
        operations = result["paths"].setdefault(lane.path, {})
        operations[lane.method.lower()] = _operation(lane, by_type)
    for path in ("/livez", "/readyz"):
        result["paths"][path] = {"get": _probe(path)}
    return result


def _types() -> Iterator[Any]:
    for lane in LANES:
        yield from (t for t in (lane.request, lane.response, lane.error) if t is not None)


def _operation(lane: Lane, by_type: dict[Any, Any]) -> dict[str, Any]:
    error_type = "application/json" if lane.tag == "openai" else "application/problem+json"
    answers = {"application/json": {"schema": by_type[lane.response]}}
    if lane.streams:
        answers["text/event-stream"] = {"schema": _server_sent_event(lane)}
    responses: dict[str, Any] = {"200": {"description": "The answer.", "content": answers}}
    for status in lane.errors:
        responses[str(status)] = {
            "description": MEANINGS[status],
            "content": {error_type: {"schema": by_type[lane.error]}},
        }
    operation: dict[str, Any] = {
        "operationId": lane.name.replace("-", "_"),
        "summary": lane.summary,
        "tags": [lane.tag],
        "security": _SECURITY,
        "responses": responses,
    }
    if lane.request is not None:
        content = {"application/json": {"schema": by_type[lane.request]}}
        operation["requestBody"] = {"required": True, "content": content}
    if lane.keyed:
        operation["parameters"] = [_IDEMPOTENCY_KEY]
    return operation


def _server_sent_event(lane: Lane) -> dict[str, Any]:
    """Return the schema of one event of a lane's stream; its data is JSON in a string."""
    parts: dict[str, Any] = {"data": {"type": "string"}}
    if lane.events:
        parts["event"] = {"type": "string", "enum": list(lane.events)}
    return {"type": "object", "required": list(parts), "properties": parts}


def _probe(path: str) -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    responses = {"200": {"description": "Yes.", "content": text}}
    if path == "/readyz":
        responses["503"] = {"description": "Not now; the body says why.", "content": text}
    return {
        "operationId": path.strip("/"),
        "summary": "Is the process alive?" if path == "/livez" else "Can it take requests?",
        "tags": ["health"],
        "security": [],
        "responses": responses,
    }

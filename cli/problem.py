"""A problem document (RFC 9457) as one message: what is wrong, which field, what to do."""

from collections.abc import Mapping

# Where a field of a request comes from on the command line.
_SOURCE_OF_POINTER = {
    "/taskType": "TASK_TYPE",
    "/prompt": "PROMPT",
    "/retryAttempts": "--retry-attempts",
    "/explain": "--explain",
    "/requirements/complexity": "--complexity",
    "/requirements/priority": "--priority",
    "/requirements/costLimit": "--cost-limit",
    "/requirements/maxTokens": "--max-tokens",
    "/requirements/qualityRequirement": "--quality",
    "/requirements/temperature": "--temperature",
}


def explain(document: Mapping[str, object], status: int, retry_after: str = "") -> str:
    """Return the message for people: a first line, then one line for each field that is wrong."""
    title = _text(document, "title") or "The service refused the request"
    detail = _text(document, "detail")
    head = f"{title.rstrip('.')} ({status})" + (f": {detail}" if detail else ".")
    if retry_after.isascii() and retry_after.isdigit():
        head += f" Try again in {retry_after} s."
    lines = [head, *_fields(document)]
    request_id = _text(document, "requestId")
    if request_id:
        lines.append(f"  request {request_id}")
    return "\n".join(lines)


def _fields(document: Mapping[str, object]) -> list[str]:
    errors = document.get("errors")
    if not isinstance(errors, list):
        return []
    return [_field(error) for error in errors if isinstance(error, dict)]


def _field(error: Mapping[str, object]) -> str:
    pointer = _text(error, "pointer")
    name = _SOURCE_OF_POINTER.get(pointer, pointer) or "request"
    said = " ".join(filter(None, (_text(error, "detail"), _text(error, "remedy"))))
    return f"  {name}: {said}"


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    return value.strip() if isinstance(value, str) else ""

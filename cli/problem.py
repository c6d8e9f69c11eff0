"""A problem document (RFC 9457) as one message: what is wrong, which field, what to do."""

from collections.abc import Mapping

from cli.view import items

_CANDIDATES_SHOWN = 10

# Where a field of a request comes from on the command line.
_SOURCE_OF_POINTER = {
    "/taskType": "TASK_TYPE",
    "/prompt": "PROMPT",
    "/retryAttempts": "--retry-attempts",
    "/hours": "--hours",
    "/model": "MODEL",
    "/endpoint": "ENDPOINT",
    "/explain": "--explain",
    "/from": "--from",
    "/to": "--to",
    "/groupBy": "--by",
    "/tenant": "--tenant",
    "/task": "--task",
    "/format": "--format",
    "/requirements/complexity": "--complexity",
    "/requirements/priority": "--priority",
    "/requirements/costLimit": "--cost-limit",
    "/requirements/maxTokens": "--max-tokens",
    "/requirements/qualityRequirement": "--quality",
    "/requirements/temperature": "--temperature",
}


def explain(document: Mapping[str, object], status: int, retry_after: str = "") -> str:
    """Return the message for people: a first line, then one line for each field that is wrong."""
    lines = [_head(document, status, retry_after)]
    lines += [_field(error) for error in items(document, "errors")]
    candidates = items(document, "candidates")
    lines += [_candidate(candidate) for candidate in candidates[:_CANDIDATES_SHOWN]]
    if len(candidates) > _CANDIDATES_SHOWN:
        lines.append(f"  and {len(candidates) - _CANDIDATES_SHOWN} more; --json shows all")
    if request_id := _text(document, "requestId"):
        lines.append(f"  request {request_id}")
    return "\n".join(lines)


def _head(document: Mapping[str, object], status: int, retry_after: str) -> str:
    title = _text(document, "title") or "The service refused the request"
    detail = _text(document, "detail")
    # A detail that only repeats its one field is told once, with the field.
    said = [_text(error, "detail") for error in items(document, "errors")]
    told = any(text and text in detail for text in said)
    head = f"{title.rstrip('.')} ({status})" + (f": {detail}" if detail and not told else ".")
    if retry_after.isascii() and retry_after.isdigit():
        head += f" Try again in {retry_after} s."
    return head


def _candidate(candidate: Mapping[str, object]) -> str:
    model, endpoint = _text(candidate, "model"), _text(candidate, "endpoint")
    return f"  {model} at {endpoint}: {_text(candidate, 'detail') or _text(candidate, 'reason')}"


def _field(error: Mapping[str, object]) -> str:
    pointer = _text(error, "pointer")
    name = _SOURCE_OF_POINTER.get(pointer, pointer) or "request"
    said = " ".join(filter(None, (_text(error, "detail"), _text(error, "remedy"))))
    return f"  {name}: {said}"


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    return value.strip() if isinstance(value, str) else ""

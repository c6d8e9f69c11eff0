"""Records as lines of PostgreSQL's COPY text format.

A line is built by hand because at ten thousand a second psycopg's per-value adaptation is most of
the cost; figures are in docs/records.md.
"""

import json
from collections.abc import Iterable
from functools import lru_cache

from telemetry.record import Attempt, RequestRecord, credited_model

# Of the temporary table, in the order of `line`; `created_us` and `cost_nusd` are turned into the
# other columns' units by the INSERT.
INCOMING = (
    ("id", "uuid"),
    ("created_us", "bigint"),
    ("response_time_ms", "integer"),
    ("selection_time_us", "integer"),
    ("first_token_ms", "integer"),
    ("prompt_tokens", "integer"),
    ("completion_tokens", "integer"),
    ("status", "integer"),
    ("cost_nusd", "bigint"),
    ("cost_limit_nusd", "bigint"),
    ("estimated_cost_nusd", "bigint"),
    ("resource_pressure", "double precision"),
    ("fallback_used", "boolean"),
    ("degraded", "boolean"),
    ("success", "boolean"),
    ("usage_estimated", "boolean"),
    ("cost_known", "boolean"),
    ("stream", "boolean"),
    ("simulated", "boolean"),
    ("kind", "text"),
    ("task_type", "text"),
    ("priority", "text"),
    ("selected_model", "text"),
    ("endpoint", "text"),
    ("chosen_model", "text"),
    ("error_type", "text"),
    ("worker", "text"),
    ("request_id", "text"),
    ("reason", "text"),
    ("error_message", "text"),
    ("attempts", "jsonb"),
)

NULL = r"\N"
# PostgreSQL's text cannot hold NUL; the others would end the value or the line.
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": None})


def lines(records: Iterable[RequestRecord]) -> bytes:
    """Return the records as COPY lines."""
    return "".join(map(line, records)).encode()


def line(r: RequestRecord) -> str:
    """Return one record as a COPY line, newline included."""
    return (
        f"{r.id.hex()}\t{r.created_at_us}\t{r.response_time_ms}\t{r.selection_time_us}\t"
        f"{r.first_token_ms}\t{r.prompt_tokens}\t{r.completion_tokens}\t{r.status}\t"
        f"{r.cost_nusd}\t{r.cost_limit_nusd}\t{r.estimated_cost_nusd}\t{r.resource_pressure}\t"
        f"{r.fallback_used}\t{r.degraded}\t{r.success}\t{r.usage_estimated}\t{r.cost_known}\t"
        f"{r.stream}\t{r.simulated}\t{_word(r.kind)}\t{_word(r.task_type)}\t{_word(r.priority)}\t"
        f"{_word(credited_model(r))}\t{_word(r.endpoint)}\t{_word(r.chosen_model)}\t"
        f"{_word(r.error_type)}\t{_word(r.worker)}\t{_text(r.request_id)}\t{_text(r.reason)}\t"
        f"{_text(r.error_message) if r.error_message else NULL}\t{_attempts(r.attempts)}\n"
    )


def _text(value: str) -> str:
    if value.isprintable() and "\\" not in value:
        return value
    return value.translate(_ESCAPES)


# Few distinct values, met again in every record.
_word = lru_cache(maxsize=4096)(_text)


@lru_cache(maxsize=4096)
def _json_word(value: str) -> str:
    # ASCII with \u escapes, except for NUL, which jsonb refuses.
    return _text(json.dumps(value.replace("\0", "")))


def _attempts(attempts: tuple[Attempt, ...]) -> str:
    if not attempts:
        return "[]"
    return f"[{','.join(map(_attempt, attempts))}]"


def _attempt(attempt: Attempt) -> str:
    partial = attempt.completion_tokens
    tokens = f',"completion_tokens":{partial}' if partial else ""
    return (
        f'{{"model":{_json_word(attempt.model)},"endpoint":{_json_word(attempt.endpoint)},'
        f'"duration_ms":{attempt.duration_ms},"error_type":{_json_word(attempt.error_type)}{tokens}}}'
    )

"""Records as lines of PostgreSQL's COPY text format.

A line is built by hand because at ten thousand a second psycopg's per-value adaptation is most of
the cost; figures are in docs/records.md.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from uuid import UUID

from telemetry.record import Attempt, Charge, RequestRecord, apart, credited_model

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
    ("cached_tokens", "integer"),
    ("baseline_nusd", "bigint"),
    ("resource_pressure", "double precision"),
    ("fallback_used", "boolean"),
    ("degraded", "boolean"),
    ("success", "boolean"),
    ("usage_estimated", "boolean"),
    ("cost_known", "boolean"),
    ("stream", "boolean"),
    ("simulated", "boolean"),
    ("baseline_known", "boolean"),
    ("kind", "text"),
    ("task_type", "text"),
    ("priority", "text"),
    ("selected_model", "text"),
    ("endpoint", "text"),
    ("chosen_model", "text"),
    ("error_type", "text"),
    ("worker", "text"),
    ("tenant", "text"),
    ("key", "text"),
    ("baseline_model", "text"),
    ("tag", "text"),
    ("request_id", "text"),
    ("reason", "text"),
    ("error_message", "text"),
    ("attempts", "jsonb"),
    ("charges", "jsonb"),
)

NULL = r"\N"
AMOUNT = "#"  # stands for what is paid, where all the rest is the same for many records
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
        f"{r.cost_nusd}\t{r.cost_limit_nusd}\t{r.estimated_cost_nusd}\t{r.cached_tokens}\t"
        f"{r.baseline_nusd}\t{r.resource_pressure}\t"
        f"{r.fallback_used}\t{r.degraded}\t{r.success}\t{r.usage_estimated}\t{r.cost_known}\t"
        f"{r.stream}\t{r.simulated}\t{r.baseline_known}\t"
        f"{word(r.kind)}\t{word(r.task_type)}\t{word(r.priority)}\t"
        f"{word(credited_model(r))}\t{word(r.endpoint)}\t{word(r.chosen_model)}\t"
        f"{word(r.error_type)}\t{word(r.worker)}\t{word(r.tenant)}\t{word(r.key)}\t"
        f"{word(r.baseline_model)}\t{_text(r.tag)}\t{_text(r.request_id)}\t{_text(r.reason)}\t"
        f"{_text(r.error_message) if r.error_message else NULL}\t{_attempts(r.attempts)}\t"
        f"{_charges(r.charges)}\n"
    )


def _text(value: str) -> str:
    if value.isprintable() and "\\" not in value:
        return value
    return value.translate(_ESCAPES)


# Few distinct values, met again in every record.
word = lru_cache(maxsize=4096)(_text)


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


def _charges(charges: tuple[Charge, ...]) -> str:
    if not charges:
        return "[]"
    if len(charges) == 1:
        return f"[{_charge(charges[0])}]"
    return f"[{','.join(map(_charge, charges))}]"


def _charge(charge: Charge) -> str:
    return str(charge.nusd).join(_paid_from(charge.leases))


# Thousands of records are paid from the same leases: what stands between the amounts.
@lru_cache(maxsize=4096)
def _paid_from(leases: bytes) -> list[str]:
    paid = [f'{{"lease":"{UUID(bytes=one)}","nusd":{AMOUNT}}}' for one in apart(leases)]
    return ",".join(paid).split(AMOUNT)

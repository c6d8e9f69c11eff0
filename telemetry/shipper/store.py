"""One batch, one transaction: the rows that are new, and the counters they add to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from telemetry.database import AsyncConnection
from telemetry.record import RequestRecord, by_lease
from telemetry.shipper.rows import INCOMING, lines
from telemetry.shipper.totals import ModelTotal, Totals, total
from telemetry.sums import packed

# Takes the transaction's cursor, and nano-dollars by lease.
Settle = Callable[[Any, Mapping[bytes, int]], Awaitable[None]]
_NAMES = [name for name, _ in INCOMING if name != "created_us"]

# What `store` needs its connection to have.
CREATE_INCOMING = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS incoming ("
    + ", ".join(f"{name} {kind}" for name, kind in INCOMING)
    + ") ON COMMIT DELETE ROWS"
)
COPY_INCOMING = "COPY incoming FROM STDIN"
INSERT_REQUESTS = f"""
INSERT INTO telemetry_orchestratorrequest ({", ".join(_NAMES)}, created_at, cost_estimate)
SELECT {", ".join(_NAMES)},
       timestamptz 'epoch' + created_us * interval '1 microsecond', cost_nusd / 1e9
FROM incoming ON CONFLICT DO NOTHING RETURNING uuid_send(id)
"""  # noqa: S608 - names from the constant above
ADD_DELTA = "INSERT INTO telemetry_requestdelta (content) VALUES (%s)"
# Every writer takes these rows in the same order, so that two conductors never wait in a circle.
ADD_TO_MODELS = """
INSERT INTO telemetry_modelmetric AS t (
    id, model_name, created_at, updated_at, request_count, success_count, error_count,
    response_time_total_ms, avg_response_time_ms, failed_attempts, prompt_tokens,
    completion_tokens, cost_nusd, last_used)
SELECT gen_random_uuid(), model, now(), now(), n, ok, n - ok, ms,
       coalesce(ms::float8 / nullif(n, 0), 0), failed, pt, ct, nusd,
       timestamptz 'epoch' + used_us * interval '1 microsecond'
FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
            %s::bigint[], %s::bigint[], %s::bigint[])
     AS new (model, n, ok, ms, failed, pt, ct, nusd, used_us)
ORDER BY model
ON CONFLICT (model_name) DO UPDATE SET
    request_count = t.request_count + excluded.request_count,
    success_count = t.success_count + excluded.success_count,
    error_count = t.error_count + excluded.error_count,
    response_time_total_ms = t.response_time_total_ms + excluded.response_time_total_ms,
    avg_response_time_ms = coalesce(
        (t.response_time_total_ms + excluded.response_time_total_ms)::float8
        / nullif(t.request_count + excluded.request_count, 0), 0),
    failed_attempts = t.failed_attempts + excluded.failed_attempts,
    prompt_tokens = t.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = t.completion_tokens + excluded.completion_tokens,
    cost_nusd = t.cost_nusd + excluded.cost_nusd,
    last_used = greatest(t.last_used, excluded.last_used),
    updated_at = now()
"""


async def store(
    connection: AsyncConnection, records: Sequence[RequestRecord], settle: Settle | None = None
) -> list[bytes]:
    """Insert the records that PostgreSQL does not have yet, and count those; return their ids.

    `settle` gets what they were charged. Either all of it is done or, with an exception, nothing.
    """
    by_id = {record.id: record for record in records}
    async with connection.transaction(), connection.cursor(binary=True) as cursor:
        async with cursor.copy(COPY_INCOMING) as copy:
            await copy.write(lines(by_id.values()))
        await cursor.execute(INSERT_REQUESTS)
        inserted = [row[0] for row in await cursor.fetchall()]
        if inserted:
            await _count(cursor, total(map(by_id.__getitem__, inserted)))
            # Last: it locks rows that workers ask for money.
            charged = chain.from_iterable(by_id[one].charges for one in inserted)
            if settle is not None and (charges := by_lease(charged)):
                await settle(cursor, charges)
    return inserted


async def _count(cursor: Any, totals: Totals) -> None:
    await cursor.execute(ADD_DELTA, [packed(totals.minutes)])
    if totals.models:
        models = [_model_row(name, m) for name, m in totals.models.items()]
        await cursor.execute(ADD_TO_MODELS, _columns(models))


def _model_row(name: str, m: ModelTotal) -> tuple[Any, ...]:
    return (
        name, m.requests, m.successes, m.response_ms, m.failed_attempts, m.prompt_tokens,
        m.completion_tokens, m.cost_nusd, m.last_used_us,
    )  # fmt: skip


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]

"""Folds what batches add up to into the tables of minutes, hours, days and spans.

The leader does it every second. Were each batch to do it for itself, its updates of the same few
hundred rows would cost more than its records, and conductors of several nodes would queue for them.
"""

from collections.abc import Iterator
from typing import Any

from telemetry.database import AsyncConnection
from telemetry.shipper.rows import word
from telemetry.sums import GroupKey, Sums, merged

# Of the tables, in the order of `_line`; each is added to, but for the longest time.
COLUMNS = (
    "request_count", "success_count", "fallback_count", "simulated_count",
    "response_time_total_ms", "response_time_max_ms", "prompt_tokens", "cached_tokens",
    "completion_tokens", "cost_nusd", "cost_unknown_count", "measured_count",
    "measured_cost_nusd", "measured_baseline_nusd", "estimated_count", "estimated_cost_nusd",
    "estimated_baseline_nusd", "uncompared_count",
)  # fmt: skip
GROUP_KEY = ("started_at", "tenant", "model_name", "task_type", "kind")
SPAN_KEY = ("seconds", "started_at", "kind")
TABLES = (
    ("telemetry_requestminute", GROUP_KEY),
    ("telemetry_requesthour", GROUP_KEY),
    ("telemetry_requestday", GROUP_KEY),
    ("telemetry_requestspan", SPAN_KEY),
)

CREATE_INCOMING_SUMS = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_sums (into_table integer, seconds integer,"
    " started bigint, tenant text, model_name text, task_type text, kind text, "
    + ", ".join(f"{name} bigint" for name in COLUMNS)
    + ", response_buckets integer[], response_counts bigint[]) ON COMMIT DELETE ROWS"
)
SPANS = 3  # of TABLES
CALL = "call"  # in spans, every kind but the choice alone, which says nothing of answer times
DELTAS_AT_ONCE = 200
TAKE_DELTAS = f"""
DELETE FROM telemetry_requestdelta WHERE id IN (
    SELECT id FROM telemetry_requestdelta ORDER BY id LIMIT {DELTAS_AT_ONCE} FOR UPDATE SKIP LOCKED)
RETURNING content
"""  # noqa: S608 - a constant
COPY_INCOMING_SUMS = "COPY incoming_sums FROM STDIN"


def _add_to(number: int, table: str, key: tuple[str, ...]) -> str:
    """Return the statement that adds what came for one table.

    Rows are taken in one order, so that two who fold at once never wait in a circle.
    """
    plain = [name for name in (*key, *COLUMNS) if name != "started_at"]
    changes = [
        f"{name} = greatest(t.{name}, excluded.{name})"
        if name.endswith("max_ms")
        else f"{name} = t.{name} + excluded.{name}"
        for name in COLUMNS
    ]
    return f"""
INSERT INTO {table} AS t (started_at, {", ".join(plain)}, response_buckets, response_counts)
SELECT to_timestamp(started), {", ".join(plain)}, response_buckets, response_counts
FROM incoming_sums WHERE into_table = {number}
ORDER BY started, {", ".join(name for name in key if name != "started_at")}
ON CONFLICT ({", ".join(key)}) DO UPDATE SET {", ".join(changes)},
    (response_buckets, response_counts) = (
        SELECT array_agg(bucket ORDER BY bucket), array_agg(n ORDER BY bucket)
        FROM (SELECT bucket, sum(n)::bigint AS n
              FROM (SELECT * FROM unnest(t.response_buckets, t.response_counts)
                    UNION ALL
                    SELECT * FROM unnest(excluded.response_buckets, excluded.response_counts)
                   ) AS both_of (bucket, n)
              GROUP BY bucket) AS merged)
"""  # noqa: S608 - names from the constants above


STATEMENTS = tuple(_add_to(number, *table) for number, table in enumerate(TABLES))


async def fold(connection: AsyncConnection) -> int:
    """Fold in what batches have added up to; returns how many batches that were.

    All of it or, with an exception, nothing: each batch counts exactly once. A few statements for
    however many batches have come together, which is what makes it cheap.
    """
    await connection.execute(CREATE_INCOMING_SUMS)
    folded = 0
    while True:
        async with connection.transaction(), connection.cursor(binary=True) as cursor:
            await cursor.execute(TAKE_DELTAS)
            contents = [row[0] for row in await cursor.fetchall()]
            if contents:
                await _add(cursor, merged(contents))
        folded += len(contents)
        if len(contents) < DELTAS_AT_ONCE:
            return folded


async def _add(cursor: Any, minutes: dict[GroupKey, Sums]) -> None:
    async with cursor.copy(COPY_INCOMING_SUMS) as copy:
        await copy.write("".join(_lines(minutes)).encode())
    for statement in STATEMENTS:
        await cursor.execute(statement)


def _lines(minutes: dict[GroupKey, Sums]) -> Iterator[str]:
    """Return lines of COPY for every table: the longer spans are made of the minutes."""
    hours, days = _by(3600, minutes), _by(86_400, minutes)
    for number, groups in enumerate((minutes, hours, days)):
        for (start, tenant, model, task, kind), sums in groups.items():
            group = f"{word(tenant)}\t{word(model)}\t{word(task)}\t{word(kind)}"
            yield f"{number}\t0\t{start}\t{group}\t{_sums(sums)}"
    for seconds, groups in ((60, minutes), (3600, hours)):
        for (start, kind), sums in _together(groups).items():
            yield f"{SPANS}\t{seconds}\t{start}\t\t\t\t{word(kind)}\t{_sums(sums)}"


def _by(seconds: int, groups: dict[GroupKey, Sums]) -> dict[GroupKey, Sums]:
    longer: dict[GroupKey, Sums] = {}
    for (start, *names), sums in groups.items():
        tenant, model, task, kind = names
        key = (start - start % seconds, tenant, model, task, kind)
        longer.setdefault(key, Sums()).merge(sums)
    return longer


def _together(groups: dict[GroupKey, Sums]) -> dict[tuple[int, str], Sums]:
    spans: dict[tuple[int, str], Sums] = {}
    for (start, _, _, _, kind), sums in groups.items():
        spans.setdefault((start, kind if kind == "select" else CALL), Sums()).merge(sums)
    return spans


def _sums(s: Sums) -> str:
    buckets = sorted(s.buckets)
    counts = ",".join([str(s.buckets[index]) for index in buckets])
    return (
        f"{s.requests}\t{s.successes}\t{s.fallbacks}\t{s.simulated}\t{s.response_ms}\t"
        f"{s.response_max_ms}\t{s.prompt_tokens}\t{s.cached_tokens}\t{s.completion_tokens}\t"
        f"{s.cost_nusd}\t{s.cost_unknown}\t{s.measured}\t{s.measured_cost_nusd}\t"
        f"{s.measured_baseline_nusd}\t{s.estimated}\t{s.estimated_cost_nusd}\t"
        f"{s.estimated_baseline_nusd}\t{s.uncompared}\t{{{','.join(map(str, buckets))}}}\t"
        f"{{{counts}}}\n"
    )

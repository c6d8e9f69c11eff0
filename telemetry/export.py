"""Requests as CSV or Parquet, page by page: neither memory nor a lock is held for long.

PostgreSQL writes the CSV itself; Parquet is made of that CSV, in a thread, as it comes.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal
from uuid import UUID

from psycopg import sql

from telemetry.database import AsyncConnection, connect

Format = Literal["csv", "parquet"]
# Of one statement: few enough to keep the event loop free, and the table's partitions unlocked.
PAGE_ROWS = 2000
ROW_GROUP_ROWS = 50_000
WAITING_CHUNKS = 4  # of Parquet, between the thread that makes them and the caller who reads them

TEXT, WHOLE, REAL, TRUTH, TIME = "text", "whole", "real", "truth", "time"
# The first two are the order of the export, and where its next page begins.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("created_at", TIME), ("id", TEXT), ("request_id", TEXT), ("tenant", TEXT), ("key", TEXT),
    ("tag", TEXT), ("kind", TEXT), ("task_type", TEXT), ("priority", TEXT),
    ("selected_model", TEXT), ("chosen_model", TEXT), ("endpoint", TEXT), ("success", TRUTH),
    ("status", WHOLE), ("error_type", TEXT), ("error_message", TEXT), ("fallback_used", TRUTH),
    ("degraded", TRUTH), ("reason", TEXT), ("response_time_ms", WHOLE),
    ("selection_time_us", WHOLE), ("first_token_ms", WHOLE), ("prompt_tokens", WHOLE),
    ("cached_tokens", WHOLE), ("completion_tokens", WHOLE), ("usage_estimated", TRUTH),
    ("cost_nusd", WHOLE), ("cost_known", TRUTH), ("cost_limit_nusd", WHOLE),
    ("estimated_cost_nusd", WHOLE), ("baseline_model", TEXT), ("baseline_nusd", WHOLE),
    ("baseline_known", TRUTH), ("resource_pressure", REAL), ("stream", TRUTH),
    ("simulated", TRUTH), ("worker", TEXT), ("attempts", TEXT), ("charges", TEXT),
)  # fmt: skip
_AS_TEXT = {
    TIME: "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    TRUTH: "{0}::text",  # true and false, not t and f
}
_SELECTED = ", ".join(_AS_TEXT.get(kind, "{0}").format(name) for name, kind in COLUMNS)
_PAGE = (
    "COPY (SELECT " + _SELECTED.replace("{", "{{").replace("}", "}}") + " FROM"
    " telemetry_orchestratorrequest WHERE created_at >= {at} AND (created_at, id) > ({at}, {id})"
    " AND created_at < {end}{whose} ORDER BY telemetry_orchestratorrequest.created_at,"
    " telemetry_orchestratorrequest.id LIMIT {rows}) TO STDOUT (FORMAT csv)"
)
HEADER = (",".join(name for name, _ in COLUMNS) + "\n").encode()
BEFORE_ALL = UUID(int=0)  # no request has it


async def exported(
    wanted: Format, start: dt.datetime, end: dt.datetime, tenant: str | None = None
) -> AsyncIterator[bytes]:
    """Yield the requests made from `start` up to, without, `end`, oldest first.

    With `tenant` only that one's.
    Raises psycopg.Error where PostgreSQL goes away meanwhile; what was yielded is then no whole
    file, which a Parquet reader notices by itself and an HTTP client by the missing last chunk.
    """
    pages = _csv_pages(start, end, tenant)
    try:
        if wanted == "csv":
            yield HEADER
            async for page in pages:
                yield page
        else:
            async for chunk in _parquet(pages):
                yield chunk
    finally:
        await pages.aclose()  # type: ignore[attr-defined]  # a generator, told as an iterator


async def _csv_pages(
    start: dt.datetime, end: dt.datetime, tenant: str | None
) -> AsyncIterator[bytes]:
    connection = await connect("export")
    try:
        at, last_id = start.astimezone(dt.UTC).isoformat(), str(BEFORE_ALL)
        while rows := await _page(connection, at, last_id, end, tenant):
            yield b"".join(rows)
            if len(rows) < PAGE_ROWS:
                return
            # Neither holds a comma or a quote.
            at, last_id = rows[-1].decode().split(",", 2)[:2]
    finally:
        await connection.close()


async def _page(
    connection: AsyncConnection, at: str, last_id: str, end: dt.datetime, tenant: str | None
) -> list[bytes]:
    """Return the next rows. Whole before any is sent on: a slow caller holds up no statement."""
    query = sql.SQL(_PAGE).format(
        at=sql.Literal(at) + sql.SQL("::timestamptz"),
        id=sql.Literal(last_id) + sql.SQL("::uuid"),
        end=sql.Literal(end),
        whose=sql.SQL(" AND tenant = {}").format(tenant) if tenant is not None else sql.SQL(""),
        rows=sql.Literal(PAGE_ROWS),
    )
    async with connection.cursor() as cursor, cursor.copy(query) as copy:
        return [bytes(row) async for row in copy]


async def _parquet(pages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[bytes] = asyncio.Queue(WAITING_CHUNKS)
    pipe = _Pipe(loop, pages, made)
    writing = loop.run_in_executor(None, _write_parquet, pipe)
    try:
        while True:
            chunk = asyncio.ensure_future(made.get())
            either: set[asyncio.Future[Any]] = {chunk, writing}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if chunk.done():
                yield chunk.result()
                continue
            chunk.cancel()
            await writing
            while not made.empty():
                yield made.get_nowait()
            return
    finally:
        pipe.close()
        while not writing.done():
            # It may wait for room: make some until it notices that nobody listens any more.
            while not made.empty():
                made.get_nowait()
            await asyncio.wait({writing}, timeout=0.05)


def _write_parquet(pipe: "_Pipe") -> None:
    # Imported late: only who exports Parquet pays for it.
    from arro3.core import DataType, Field, Schema
    from arro3.io import read_csv, write_parquet

    types = {
        TEXT: DataType.string(),
        WHOLE: DataType.int64(),
        REAL: DataType.float64(),
        TRUTH: DataType.bool(),
        TIME: DataType.timestamp("us", tz="UTC"),
    }
    # An empty text of the CSV is a null.
    schema = Schema([Field(name, types[kind], nullable=kind == TEXT) for name, kind in COLUMNS])
    rows = read_csv(pipe, schema, has_header=False, batch_size=8192)  # type: ignore[arg-type]
    write_parquet(rows, pipe, compression="zstd(3)", max_row_group_size=ROW_GROUP_ROWS)  # type: ignore[arg-type]


class _Pipe:
    """What the thread reads CSV from and writes Parquet to, as if it were a file.

    Both ends live on the event loop: the thread waits there for the next page, and for room.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pages: AsyncIterator[bytes],
        made: "asyncio.Queue[bytes]",
    ) -> None:
        self._loop, self._pages, self._made = loop, pages, made
        self._chunks = self._read_all()
        self._held = memoryview(b"")
        self._closed = False

    def close(self) -> None:
        """Make the thread end soon: no page follows, and what it writes is let go.

        It is told nothing of that, for the writer of Parquet takes an error for a panic.
        """
        self._closed = True

    def read(self, size: int) -> bytes:
        while not self._held:
            page = next(self._chunks, None)
            if page is None:
                return b""
            self._held = memoryview(page)
        taken, self._held = self._held[:size], self._held[size:]
        return bytes(taken)

    def write(self, data: bytes) -> int:
        if not self._closed:
            self._on_loop(self._made.put(bytes(data)))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def seek(self, *_: Any) -> int:
        raise OSError("a stream cannot be rewound")

    def _read_all(self) -> Iterator[bytes]:
        while not self._closed and (page := self._on_loop(anext(self._pages, None))) is not None:
            yield page

    def _on_loop(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop).result()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable

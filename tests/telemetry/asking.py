"""Questions the tests put to the database."""

from typing import Any

from telemetry.database import AsyncConnection


async def rows(connection: AsyncConnection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return all rows."""
    return list(await (await connection.execute(sql, values)).fetchall())


async def one(connection: AsyncConnection, sql: str, *values: Any) -> Any:
    """Return the one value asked for."""
    ((value,),) = await rows(connection, sql, *values)
    return value


async def count_requests(connection: AsyncConnection) -> int:
    """Return how many requests there are."""
    return int(await one(connection, "SELECT count(*) FROM telemetry_orchestratorrequest"))

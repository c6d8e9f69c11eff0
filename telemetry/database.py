"""The conductor's own connections to PostgreSQL: Django's settings, psycopg's async interface."""

from typing import Any

import psycopg
from django.db import connections

AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]


async def connect(name: str) -> AsyncConnection:
    """Return a connection in autocommit mode; `name` is what `pg_stat_activity` shows.

    Raises psycopg.OperationalError where PostgreSQL is away.
    """
    wanted = connections["default"].get_connection_params()
    for ours in ("cursor_factory", "context", "pool"):
        wanted.pop(ours, None)
    wanted |= {"application_name": f"ai-orchestra {name}", "connect_timeout": 5}
    return await psycopg.AsyncConnection.connect(**wanted, autocommit=True)


def one_line(exc: BaseException) -> str:
    """Return an exception's text as one line; libpq's have several."""
    return " ".join(str(exc).split()) or type(exc).__name__

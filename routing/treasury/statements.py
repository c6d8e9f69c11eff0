"""What is said to PostgreSQL about money: one statement each, by functions of the migrations.

In a module of its own, without Django: web workers say the same things as the conductor.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from routing.engine.purse import Purse

Connection = AsyncConnection[tuple[Any, ...]]


class Grant(msgspec.Struct, frozen=True):
    """What was leased, and how the window stood after it; nano-dollars."""

    cut: int
    granted: int | None  # of this lease in sum; None once it was given up
    limit: int
    spent: int
    leased: int


async def describe(connection: Connection, purse: Purse) -> None:
    """Make the window known with its limit; an older policy's says nothing."""
    window = purse.window
    await connection.execute(
        "SELECT orchestra_window(%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            UUID(bytes=window.id), window.budget, window.period, window.starts_at, window.ends_at,
            purse.hard, purse.limit, purse.version,
        ],
    )  # fmt: skip


async def grant(
    connection: Connection,
    purse: Purse,
    *,
    spool: str,
    holder: str,
    least: int,
    most: int,
    ahead: int,
    ttl_s: int,
) -> Grant | None:
    """Lease at least `least`, up to `most` that is waited for, and a part of `ahead`; or nothing.

    Return None where the window is not known.
    """
    found = await connection.execute(
        "SELECT cut, granted, budget_limit, spent, leased"
        " FROM orchestra_grant(%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            UUID(bytes=purse.window.id), UUID(bytes=purse.lease), spool, holder, least, most, ahead,
            ttl_s,
        ],
    )  # fmt: skip
    row = await found.fetchone()
    return None if row is None else Grant(*row)


async def give_back(connection: Connection, purse: Purse, keep: int) -> None:
    """Leave the lease no more than `keep` of what it was granted."""
    await connection.execute("SELECT orchestra_give_back(%s, %s)", [UUID(bytes=purse.lease), keep])


async def granted(connection: Connection, purse: Purse) -> int | None:
    """Return what a lease was granted in sum, 0 where there is none; None once it is closed."""
    found = await connection.execute(
        "SELECT granted_nusd, closed FROM routing_lease WHERE id = %s", [UUID(bytes=purse.lease)]
    )
    row = await found.fetchone()
    if row is None:
        return 0
    return None if row[1] else int(row[0])


async def renew(connection: Connection, *, spool: str, holder: str, ttl_s: int) -> None:
    """Say that the holder lives."""
    await connection.execute(
        "UPDATE routing_lease SET expires_at = now() + %s * interval '1 second'"
        " WHERE spool = %s AND holder = %s AND NOT closed",
        [ttl_s, spool, holder],
    )


async def given_up(connection: Connection, purses: Sequence[Purse]) -> set[bytes]:
    """Return the leases among those of the purses that somebody gave up."""
    found = await connection.execute(
        "SELECT id FROM routing_lease WHERE id = ANY (%s) AND closed",
        [[UUID(bytes=purse.lease) for purse in purses]],
    )
    return {row[0].bytes for row in await found.fetchall()}


async def standing(connection: Connection, purses: Sequence[Purse]) -> dict[bytes, tuple[int, ...]]:
    """Return (limit, spent, leased) of the windows, by id."""
    found = await connection.execute(
        "SELECT id, limit_nusd, spent_nusd, leased_nusd FROM routing_budgetwindow"
        " WHERE id = ANY (%s)",
        [[UUID(bytes=purse.window.id) for purse in purses]],
    )
    return {row[0].bytes: row[1:] for row in await found.fetchall()}


async def settle(cursor: Any, charges: Mapping[bytes, int]) -> None:
    """Count what stored records were charged, in the transaction that stores them."""
    await cursor.execute(
        "SELECT orchestra_settle(%s::uuid[], %s::bigint[])",
        [[UUID(bytes=account) for account in charges], list(charges.values())],
    )


async def bury(connection: Connection, *, spool: str, holder: str) -> int:
    """Free what a holder had left: it is dead and its records are stored. Return how much."""
    found = await connection.execute("SELECT orchestra_bury(%s, %s)", [spool, holder])
    row = await found.fetchone()
    return int(row[0]) if row else 0

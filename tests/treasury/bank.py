"""What PostgreSQL's functions are to do, written down again in Python: the model they are held to.

And the same functions in PostgreSQL, behind the same names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import psycopg

Standing = dict[bytes, tuple[int, int, int]]  # by window: limit, spent, leased
LeaseRows = dict[bytes, tuple[int, int, bool]]  # by lease: granted, settled, closed


class Bank(Protocol):
    def describe(self, window: bytes, limit: int, version: int) -> None: ...
    def grant(
        self, window: bytes, lease: bytes, holder: str, least: int, most: int, ahead: int
    ) -> int: ...
    def give_back(self, lease: bytes, keep: int) -> None: ...
    def settle(self, charges: Mapping[bytes, int]) -> None: ...
    def bury(self, holder: str) -> int: ...
    def standing(self) -> Standing: ...
    def leases(self) -> LeaseRows: ...


@dataclass
class Row:
    limit: int = 0
    version: int = -1
    spent: int = 0
    leased: int = 0


@dataclass
class LeaseRow:
    window: bytes
    holder: str
    granted: int = 0
    settled: int = 0
    closed: bool = False


@dataclass
class ModelBank:
    """The rules, without a database."""

    rows: dict[bytes, Row] = field(default_factory=dict)
    lease_rows: dict[bytes, LeaseRow] = field(default_factory=dict)

    def describe(self, window: bytes, limit: int, version: int) -> None:
        row = self.rows.setdefault(window, Row())
        if version > row.version:
            row.limit, row.version = limit, version

    def grant(
        self, window: bytes, lease: bytes, holder: str, least: int, most: int, ahead: int
    ) -> int:
        row = self.rows.get(window)
        known = self.lease_rows.get(lease)
        if row is None or (known is not None and known.closed):
            return 0
        room = max(0, row.limit - row.spent - row.leased)
        if room < least:
            return 0
        unit = max(least, 1)
        cut = min(room, most) + min(ahead, max(0, room - most) // 16) // unit * unit
        if cut > 0:
            row.leased += cut
            kept = self.lease_rows.setdefault(lease, LeaseRow(window, holder))
            kept.granted += cut
        return cut

    def give_back(self, lease: bytes, keep: int) -> None:
        row = self.lease_rows.get(lease)
        if row is None or row.closed:
            return
        kept = max(keep, row.settled)
        if kept < row.granted:
            self.rows[row.window].leased -= row.granted - kept
            row.granted = kept

    def settle(self, charges: Mapping[bytes, int]) -> None:
        for account, nusd in charges.items():
            row = self.lease_rows.get(account)
            if row is None:
                # A lease is of version 4, and one that is not known pays for nothing.
                if UUID(bytes=account).version == 5:
                    self.rows.setdefault(account, Row()).spent += nusd
                continue
            window = self.rows[row.window]
            if not row.closed:
                window.leased -= min(nusd, row.granted - row.settled)
            row.settled += nusd
            row.granted = max(row.granted, row.settled)
            window.spent += nusd

    def bury(self, holder: str) -> int:
        freed = 0
        for row in self.lease_rows.values():
            if row.holder == holder and not row.closed:
                row.closed = True
                free = row.granted - row.settled
                self.rows[row.window].leased -= free
                freed += free
        return freed

    def standing(self) -> Standing:
        return {key: (row.limit, row.spent, row.leased) for key, row in self.rows.items()}

    def leases(self) -> LeaseRows:
        return {key: (row.granted, row.settled, row.closed) for key, row in self.lease_rows.items()}


class SqlBank:
    """The functions of migration 0005."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._sql = connection
        connection.execute("TRUNCATE routing_budgetwindow CASCADE")

    def describe(self, window: bytes, limit: int, version: int) -> None:
        self._sql.execute(
            "SELECT orchestra_window(%s, 'b', 'day', 0, 86400, true, %s, %s)",
            [UUID(bytes=window), limit, version],
        )

    def grant(
        self, window: bytes, lease: bytes, holder: str, least: int, most: int, ahead: int
    ) -> int:
        found = self._sql.execute(
            "SELECT cut FROM orchestra_grant(%s, %s, 's', %s, %s, %s, %s, 300)",
            [UUID(bytes=window), UUID(bytes=lease), holder, least, most, ahead],
        ).fetchone()
        return found[0] if found else 0

    def give_back(self, lease: bytes, keep: int) -> None:
        self._sql.execute("SELECT orchestra_give_back(%s, %s)", [UUID(bytes=lease), keep])

    def settle(self, charges: Mapping[bytes, int]) -> None:
        self._sql.execute(
            "SELECT orchestra_settle(%s::uuid[], %s::bigint[])",
            [[UUID(bytes=account) for account in charges], list(charges.values())],
        )

    def bury(self, holder: str) -> int:
        found = self._sql.execute("SELECT orchestra_bury('s', %s)", [holder]).fetchone()
        return int(found[0]) if found else 0

    def standing(self) -> Standing:
        rows = self._sql.execute(
            "SELECT id, limit_nusd, spent_nusd, leased_nusd FROM routing_budgetwindow"
        ).fetchall()
        return {row[0].bytes: (row[1], row[2], row[3]) for row in rows}

    def leases(self) -> LeaseRows:
        rows = self._sql.execute(
            "SELECT id, granted_nusd, settled_nusd, closed FROM routing_lease"
        ).fetchall()
        return {row[0].bytes: (row[1], row[2], row[3]) for row in rows}

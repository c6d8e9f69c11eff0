"""What the database, the spool and the budgets say when all is over."""

import contextlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psycopg

from telemetry.spool.layout import spool_use
from tests.chaos.damage import GHOST
from tests.chaos.house import House

SPANS = ("minute", "hour", "day")
POLL_S = 0.5
DELTAS = "SELECT count(*) FROM telemetry_requestdelta"
LEASED = "SELECT coalesce(sum(leased_nusd), 0)::bigint FROM routing_budgetwindow"
ROWS = "SELECT request_id, worker, cost_nusd FROM telemetry_orchestratorrequest"
SUMS = """SELECT coalesce(sum(request_count), 0)::bigint, coalesce(sum(cost_nusd), 0)::bigint
FROM telemetry_request{}"""
# What each budget counted, beside what the records of its tenant or key cost. Only answers and
# deaths cost something, and each of these tenants has one key.
MONEY = """SELECT w.budget, w.spent_nusd, w.leased_nusd, coalesce((
    SELECT sum(cost_nusd)::bigint FROM telemetry_orchestratorrequest r
    WHERE CASE b.scope WHEN 'tenant' THEN r.tenant ELSE r.key END = b.subject), 0)
FROM routing_budgetwindow w JOIN routing_budget b ON b.name = w.budget ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Account:
    """One budget: what it counted, what it still holds, what its records cost; nano-dollars."""

    budget: str
    spent: int
    held: int
    recorded: int


@dataclass(frozen=True, slots=True)
class Books:
    """Everything that was kept."""

    rows: int
    ids: Counter[str]  # of callers' requests: how many rows each has
    ghosts: Counter[str]  # the same of what was planted
    cost: int
    sums: dict[str, tuple[int, int]]  # by span: requests and nano-dollars
    accounts: list[Account]
    backlog_bytes: int
    corrupt: int
    settled_s: float  # until nothing waited any more

    @property
    def doubled(self) -> int:
        return sum(count - 1 for count in (*self.ids.values(), *self.ghosts.values()))


def close(home: House, limit_s: float) -> Books:
    """Return what was kept once nothing waits any more, or after the limit as it is."""
    spool_dir, url = home.live.home.spool, home.database_url
    began = time.monotonic()
    while time.monotonic() < began + limit_s:
        with contextlib.suppress(psycopg.OperationalError):
            if not spool_use(spool_dir).backlog_bytes and _at_rest(url):
                break
        time.sleep(POLL_S)
    settled_s = time.monotonic() - began
    use = spool_use(spool_dir)
    with psycopg.connect(url) as connection:
        ids: Counter[str] = Counter()
        ghosts: Counter[str] = Counter()
        cost = 0
        for id_, worker, nusd in connection.execute(ROWS):
            (ghosts if worker == GHOST else ids)[id_] += 1
            cost += nusd
        sums = {span: _pair(connection, SUMS.format(span)) for span in SPANS}
        accounts = [Account(*row) for row in connection.execute(MONEY)]
    return Books(
        rows=ids.total() + ghosts.total(),
        ids=ids,
        ghosts=ghosts,
        cost=cost,
        sums=sums,
        accounts=accounts,
        backlog_bytes=use.backlog_bytes,
        corrupt=use.corrupt,
        settled_s=settled_s,
    )


def _at_rest(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return all(_one(connection, query) == 0 for query in (DELTAS, LEASED))


def _one(connection: psycopg.Connection, query: Any) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _pair(connection: psycopg.Connection, query: Any) -> tuple[int, int]:
    row = connection.execute(query).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)

"""The leader's part of the treasury: deletes periods and leases that are long over.

Nothing that could still be settled goes: no lease under which money is held, and no period with a
lease left. What is charged to one that is gone all the same is a stray charge (`orchestra_settle`).
"""

import logging

from telemetry.database import AsyncConnection

logger = logging.getLogger(__name__)

# A spool that was away comes back by then.
LEASES_DAYS = 30
BATCH = 500
MOST_BATCHES = 20  # the next time goes on

# Open leases of which all is settled: of dead holders, and of periods that no request is in.
LEASES = """
DELETE FROM routing_lease WHERE id IN (
    SELECT l.id FROM routing_lease l JOIN routing_budgetwindow w ON w.id = l.window_id
    WHERE ((l.closed OR l.granted_nusd = l.settled_nusd)
           AND l.expires_at < now() - %(days)s * interval '1 day')
       OR (l.granted_nusd = l.settled_nusd AND w.ends_at < now() - %(days)s * interval '1 day')
    LIMIT %(batch)s FOR UPDATE OF l SKIP LOCKED)
"""
# Without a name: what came after a soft budget's period was gone.
WINDOWS = """
SELECT w.id FROM routing_budgetwindow w
WHERE (w.ends_at < now() - %(days)s * interval '1 day'
       OR (w.budget = '' AND w.updated_at < now() - %(days)s * interval '1 day'))
  AND w.leased_nusd = 0
  AND NOT EXISTS (SELECT FROM routing_lease l WHERE l.window_id = w.id)
LIMIT %(batch)s FOR UPDATE OF w SKIP LOCKED
"""
STRAYS = """
INSERT INTO routing_straycharge AS old (id, nusd)
SELECT id, spent_nusd FROM routing_budgetwindow
WHERE id = ANY (%s) AND budget = '' AND spent_nusd <> 0
ON CONFLICT (id) DO UPDATE SET nusd = old.nusd + excluded.nusd
"""
PARTS = (
    "DELETE FROM routing_budgetspend WHERE window_id = ANY (%s)",
    "DELETE FROM routing_budgetalert WHERE window_id = ANY (%s)",
    "DELETE FROM routing_budgetwindow WHERE id = ANY (%s)",
)


async def tidy(connection: AsyncConnection, *, days: int) -> tuple[int, int]:
    """Delete periods that ended more than `days` ago, and old leases; return how many of each."""
    leases = windows = 0
    for _ in range(MOST_BATCHES):
        gone = await connection.execute(LEASES, {"days": LEASES_DAYS, "batch": BATCH})
        leases += gone.rowcount
        if gone.rowcount < BATCH:
            break
    for _ in range(MOST_BATCHES):
        count = await _delete_windows(connection, days)
        windows += count
        if count < BATCH:
            break
    if leases or windows:
        logger.info("Deleted %d periods of budgets and %d leases, long over.", windows, leases)
    return windows, leases


async def _delete_windows(connection: AsyncConnection, days: int) -> int:
    async with connection.transaction():
        found = await connection.execute(WINDOWS, {"days": days, "batch": BATCH})
        ids = [row[0] for row in await found.fetchall()]
        if ids:
            for statement in (STRAYS, *PARTS):
                await connection.execute(statement, [ids])
    return len(ids)

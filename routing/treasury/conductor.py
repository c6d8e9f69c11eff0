"""A conductor's job: tells once of each threshold that a budget's period has passed.

A row says that it was passed, and waits there until it is told. Its event has an id that follows
from the row, under which Redis takes it only once: wherever a conductor dies, the next one tells
what is not marked as told, and what was told already is not told again.
"""

import asyncio
import contextlib
import logging
import uuid
from typing import Any, Protocol

import psycopg
from redis.exceptions import RedisError

from routing.engine.catalog import BudgetSpec, PolicyDocument
from telemetry.database import AsyncConnection, connect, one_line
from telemetry.events import CostThresholdExceeded
from telemetry.waiting import Backoff, pause

logger = logging.getLogger(__name__)

EVERY_S = 0.5

PASSED = """
INSERT INTO routing_budgetalert (window_id, percent, at)
SELECT w.id, t.percent, now()
FROM routing_budgetwindow w
JOIN unnest(%(budgets)s::text[], %(percents)s::int[]) AS t (budget, percent) ON t.budget = w.budget
WHERE w.limit_nusd > 0 AND w.spent_nusd::numeric * 100 >= w.limit_nusd::numeric * t.percent
  AND (w.ends_at IS NULL OR w.ends_at > now() - interval '7 days')
ORDER BY w.id, t.percent
ON CONFLICT (window_id, percent) DO NOTHING
"""
# Held until they are marked: of several conductors only one tells.
UNTOLD = """
SELECT a.id, a.window_id, a.percent, extract(epoch FROM a.at)::float8,
       w.budget, w.spent_nusd, w.limit_nusd, w.starts_at, w.ends_at
FROM routing_budgetalert a JOIN routing_budgetwindow w ON w.id = a.window_id
WHERE a.told_at IS NULL ORDER BY a.id LIMIT 100 FOR UPDATE OF a SKIP LOCKED
"""
TOLD = "UPDATE routing_budgetalert SET told_at = now() WHERE id = ANY (%s)"


class Publish(Protocol):
    """Tells an event, but not twice under one id; raises RedisError where it may not be told."""

    async def __call__(
        self, event: CostThresholdExceeded, /, *, event_id: str, at: float
    ) -> bool: ...


class Thresholds:
    """Watches the windows of every budget that has thresholds."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._budgets: tuple[BudgetSpec, ...] = ()

    def adopt(self, policy: PolicyDocument) -> None:
        """Watch the budgets of a new policy."""
        self._budgets = tuple(b for b in policy.budgets if b.enabled and b.thresholds)

    async def run(self, stop: asyncio.Event) -> None:
        """Look every half second until `stop` is set, or once PostgreSQL and Redis are back."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                connection = await connect("thresholds")
                try:
                    while not await pause(stop, EVERY_S):
                        await self.look(connection)
                        backoff.succeeded()
                finally:
                    with contextlib.suppress(psycopg.Error):
                        await connection.close()
            except (psycopg.Error, RedisError, OSError) as exc:
                if backoff.fresh:
                    refuses = "Redis" if isinstance(exc, RedisError) else "PostgreSQL"
                    logger.warning("Thresholds wait, %s refuses: %s", refuses, one_line(exc))
                await pause(stop, backoff.failed())

    async def look(self, connection: AsyncConnection) -> int:
        """Tell of what was passed since the last look; return how many were told.

        Raises RedisError where events are not taken: what was passed is told later.
        """
        if not self._budgets:
            return 0
        rows = [(b.name, percent) for b in self._budgets for percent in b.thresholds]
        await connection.execute(
            PASSED, {"budgets": [r[0] for r in rows], "percents": [r[1] for r in rows]}
        )
        async with connection.transaction():
            untold = await (await connection.execute(UNTOLD)).fetchall()
            for _, window, percent, at, *about in untold:
                await self._publish(
                    _event(percent, *about), event_id=str(uuid.uuid5(window, str(percent))), at=at
                )
            if untold:
                await connection.execute(TOLD, [[row[0] for row in untold]])
        return len(untold)


def _event(
    percent: int, budget: str, spent: int, limit: int, starts_at: Any, ends_at: Any
) -> CostThresholdExceeded:
    return CostThresholdExceeded(
        request_id="",
        estimated_cost=spent / 1e9,
        threshold=limit * percent / 100 / 1e9,
        budget=budget,
        percent=percent,
        limit=limit / 1e9,
        window_start=starts_at,
        window_end=ends_at,
    )

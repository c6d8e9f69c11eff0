"""Budgets that turn hard or soft while calls run: each charge counts once, nothing stays held."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from routing.engine.catalog import PolicyDocument
from routing.treasury import statements
from telemetry.database import AsyncConnection
from tests.fixtures_engines import SimulatedHost
from tests.treasury.fleet import Worker, budget, each, limited, ship, standing, working

CENT = 10**7


class Turning:
    """One worker under one budget, which turns and whose limit changes."""

    def __init__(self, worker: Worker, policy: PolicyDocument) -> None:
        self.worker, self._policy = worker, policy

    def turn(self, usd: str, *, hard: bool) -> None:
        self._policy = replace(
            self._policy,
            budgets=(budget(usd, period="total", hard=hard),),
            version=self._policy.version + 1,
        )
        self.worker.stage.runtime.adopt(self._policy)

    async def ask(self) -> int:
        return (await self.worker.ask()).status

    async def asking(self) -> "asyncio.Task[int]":
        """Return a call that is under way, and holds what it may cost."""
        call = asyncio.create_task(self.ask())
        async with asyncio.timeout(5):
            while not any(p.held for p in self.worker.stage.runtime.ledger.purses.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return call


@pytest.fixture
def slow(host: SimulatedHost) -> SimulatedHost:
    host.fail("delay", delay_ms=400)
    return host


def policy_of(host: SimulatedHost, usd: str, *, hard: bool) -> Any:
    return limited(host.url, [budget(usd, period="total", hard=hard)], each("0.01"))


async def test_a_call_that_began_under_a_soft_budget_is_counted_by_the_hard_one(
    database: AsyncConnection, redis_url: str, tmp_path: Path, slow: SimulatedHost
) -> None:
    policy = policy_of(slow, "0.001", hard=False)
    async with working(tmp_path, "web-0", policy, redis_url) as worker:
        one = Turning(worker, policy)
        assert await one.ask() == 200
        await ship(tmp_path)
        call = await one.asking()
        one.turn("0.001", hard=True)
        assert await call == 200
        assert await one.ask() == 402
    await ship(tmp_path)
    assert await standing(database) == (CENT // 10, 2 * CENT, 0)


async def test_what_a_soft_budget_spent_counts_once_when_it_turns_hard(
    database: AsyncConnection, redis_url: str, tmp_path: Path, host: SimulatedHost
) -> None:
    policy = policy_of(host, "0.001", hard=False)
    async with working(tmp_path, "web-0", policy, redis_url) as worker:
        one = Turning(worker, policy)
        assert [await one.ask() for _ in range(2)] == [200, 200]
        await ship(tmp_path)
        one.turn("0.031", hard=True)
        assert [await one.ask() for _ in range(2)] == [200, 402]
    await ship(tmp_path)
    assert await standing(database) == (31 * CENT // 10, 3 * CENT, 0)


async def test_what_a_hard_budget_held_goes_back_when_it_turns_soft(
    database: AsyncConnection, redis_url: str, tmp_path: Path, slow: SimulatedHost
) -> None:
    policy = policy_of(slow, "0.5", hard=True)
    async with working(tmp_path, "web-0", policy, redis_url) as worker:
        one = Turning(worker, policy)
        call = await one.asking()
        one.turn("0.5", hard=False)
        assert await call == 200
        async with asyncio.timeout(5):
            # What is charged stays leased until its record is shipped.
            while (await standing(database))[2] > CENT:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await ship(tmp_path)
        assert await standing(database) == (50 * CENT, CENT, 0)
        one.turn("0.021", hard=True)
        assert [await one.ask() for _ in range(2)] == [200, 402]
    await ship(tmp_path)
    assert await standing(database) == (21 * CENT // 10, 2 * CENT, 0)


async def test_a_charge_of_a_lease_that_is_gone_makes_no_window(database: AsyncConnection) -> None:
    async with database.cursor() as cursor:
        await statements.settle(cursor, {uuid.uuid4().bytes: CENT})
        await cursor.execute("SELECT count(*) FROM routing_budgetwindow")
        assert await cursor.fetchall() == [(0,)]

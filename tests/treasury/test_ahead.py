"""Money that a worker took ahead for its next calls is there for others, and is given back."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from routing.engine.payers import Payers
from routing.engine.purse import HALF_S, Purse
from routing.treasury import desk
from telemetry.database import AsyncConnection
from tests.fixtures_engines import SimulatedHost
from tests.treasury.fleet import Worker, budget, each, fleet, limited, ship, standing

DOLLAR = 10**9
COST = DOLLAR // 10_000


FleetOf = Callable[[int], AbstractAsyncContextManager[list[Worker]]]


@pytest.fixture
def fleet_of(
    database: AsyncConnection, redis_url: str, host: SimulatedHost, tmp_path: Path
) -> FleetOf:
    """Return what starts so many workers under one budget of a dollar, each call of COST."""
    policy = limited(host.url, [budget("1")], each("0.0001"))
    return lambda count: fleet(tmp_path, count, policy, redis_url)


async def plenty(worker: Worker) -> tuple[Payers, Purse]:
    """Have a worker lease for a fast pace, and take a part of it ahead; return who pays."""
    assert (await worker.ask()).status == 200
    ledger = worker.stage.runtime.ledger
    (purse,) = ledger.purses.values()
    purse.pace = DOLLAR / 2
    async with asyncio.timeout(5):
        while purse.free < DOLLAR // 50:
            worker.desk.wake(purse)
            await asyncio.sleep(0.03)
    purse.pace = 0.0
    paying = payers(worker)
    assert ledger.take(paying, COST, time.monotonic()) is None
    assert paying.ahead > 0
    assert paying.settle(COST, 0)
    return paying, purse


def payers(worker: Worker) -> Payers:
    wallet = worker.stage.runtime.ledger.wallet("", "", "completion", "", time.time())
    assert wallet is not None
    return wallet.payers("alpha:1b")


async def test_who_is_short_gets_what_another_took_ahead(
    fleet_of: FleetOf, database: AsyncConnection, tmp_path: Path
) -> None:
    async with fleet_of(2) as (one, two):
        paying, purse = await plenty(one)
        left = DOLLAR - COST
        assert await two.desk.hold(payers(two), left) is None
        assert (paying.ahead, purse.free, purse.charged) == (0, 0, COST)
        assert (await one.ask()).status == 402
        two.stage.runtime.ledger.settle(payers(two), left, 0)
    await ship(tmp_path)
    assert await standing(database) == (DOLLAR, COST, 0)


async def test_a_worker_that_stops_gives_it_back(
    fleet_of: FleetOf, database: AsyncConnection, tmp_path: Path
) -> None:
    async with fleet_of(1) as (worker,):
        await plenty(worker)
    # Before anybody looks for what the dead have left.
    assert await standing(database) == (DOLLAR, 0, COST)
    await ship(tmp_path)
    assert await standing(database) == (DOLLAR, COST, 0)


async def test_what_idles_is_given_back(
    fleet_of: FleetOf, database: AsyncConnection, tmp_path: Path
) -> None:
    async with fleet_of(1) as (worker,):
        _, purse = await plenty(worker)
        await ship(tmp_path)
        async with asyncio.timeout(10):
            while purse.granted != purse.charged:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await standing(database) == (DOLLAR, COST, 0)


async def test_what_is_used_from_what_is_ahead_does_not_idle(
    fleet_of: FleetOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "IDLE_S", 0.6)
    async with fleet_of(1) as (worker,):
        paying, purse = await plenty(worker)
        granted, end = purse.granted, time.monotonic() + 1.5
        while time.monotonic() < end:
            if not paying.hold(COST):
                assert worker.stage.runtime.ledger.take(paying, COST, time.monotonic()) is None
            assert paying.settle(COST, 0)
            assert purse.granted >= granted
            await asyncio.sleep(0.02)


async def test_what_is_taken_ahead_is_not_leased_once_more(
    fleet_of: FleetOf,
) -> None:
    async with fleet_of(1) as (worker,):
        paying, purse = await plenty(worker)
        purse.ordered_at = float("-inf")
        enough = purse.free + paying.ahead
        for pace, more in ((enough / HALF_S, False), (enough / HALF_S + 2, True)):
            purse.pace = pace
            assert worker.desk._wants_more(purse) is more

"""Several workers, one budget: all of it can be spent, and not a nano-dollar more."""

import asyncio
from pathlib import Path

import pytest

from telemetry.database import AsyncConnection
from tests.fixtures_engines import SimulatedHost
from tests.treasury.fleet import budget, each, fleet, limited, ship, standing, working

WORKERS = 8


@pytest.mark.parametrize("room", [1, 7, 50])
async def test_what_a_budget_has_room_for_is_answered_and_no_more(
    database: AsyncConnection, redis_url: str, tmp_path: Path, host: SimulatedHost, room: int
) -> None:
    price = each("0.01")
    policy = limited(host.url, [budget(str(room / 100))], price)
    async with fleet(tmp_path, WORKERS, policy, redis_url) as workers:
        asked = [worker.ask() for worker in workers for _ in range(25)]
        heard = await asyncio.gather(*asked)
    statuses = [one.status for one in heard]
    assert statuses.count(200) == room
    assert statuses.count(402) == len(statuses) - room
    await ship(tmp_path)
    assert await standing(database) == (room * 10**7, room * 10**7, 0)


async def test_each_budget_that_counts_a_request_is_charged_all_of_it(
    database: AsyncConnection, redis_url: str, tmp_path: Path, host: SimulatedHost
) -> None:
    counted = [
        budget("1"),
        budget("1", "work", scope="task", subject="completion"),
        budget("1", "soft", scope="model", subject="alpha:1b", hard=False),
        budget("1", "idle", scope="task", subject="code"),
    ]
    async with fleet(tmp_path, 2, limited(host.url, counted, each("0.01")), redis_url) as workers:
        for worker in (*workers, *workers, workers[0]):
            assert (await worker.ask()).status == 200
    await ship(tmp_path)
    found = await database.execute(
        "SELECT budget, spent_nusd, leased_nusd FROM routing_budgetwindow WHERE spent_nusd > 0"
    )
    assert sorted(await found.fetchall()) == [
        ("everything", 5 * 10**7, 0),
        ("soft", 5 * 10**7, 0),
        ("work", 5 * 10**7, 0),
    ]


async def test_postgresql_is_found_again_however_many_ask_meanwhile(
    database: AsyncConnection,
    redis_url: str,
    host: SimulatedHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = limited(host.url, [budget("1000")], each("0.01"))
    async with working(tmp_path, "web-0", policy, redis_url) as worker:
        away, connect = True, worker.desk._connect

        async def connected() -> AsyncConnection:
            if away:
                raise OSError("away")
            return await connect()

        monkeypatch.setattr(worker.desk, "_connect", connected)

        async def asking() -> list[int]:
            return [(await worker.ask()).status for _ in range(8)]

        callers = [asyncio.create_task(asking()) for _ in range(8)]
        await asyncio.sleep(0.4)
        away = False
        statuses = await asyncio.gather(*callers)
    assert {told[0] for told in statuses} == {503}
    assert {told[-1] for told in statuses} == {200}

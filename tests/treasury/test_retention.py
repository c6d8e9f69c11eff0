"""What is long over is deleted, and nothing that could still be settled or is charged after it."""

import asyncio
import datetime as dt
import uuid
from functools import partial
from typing import Any

import pytest
from django.test import Client
from redis.asyncio import Redis

from routing.models import BudgetWindow, StrayCharge
from routing.treasury import retention, statements
from routing.treasury.report import stray_nusd
from routing.treasury.retention import tidy
from telemetry.database import AsyncConnection, connect
from telemetry.leader import Leader
from telemetry.partitions import Retention

DAYS = 400
SOFT = uuid.uuid5(uuid.NAMESPACE_DNS, "a soft budget's window")


async def a_window(
    database: AsyncConnection, *, ended_days: float | None = 500, **more: Any
) -> uuid.UUID:
    told: dict[str, Any] = {
        "id": uuid.uuid4(), "budget": "team", "spent_nusd": 0, "leased_nusd": 0, **more,
        "ends_at": None if ended_days is None else ago(ended_days),
    }  # fmt: skip
    await insert(database, "routing_budgetwindow", told)
    for table in ("spend (window_id, at, nusd)", "alert (window_id, at, percent)"):
        insertion = f"INSERT INTO routing_budget{table} VALUES (%s, now(), 5)"  # noqa: S608
        await database.execute(insertion, [told["id"]])
    return uuid.UUID(str(told["id"]))


async def a_lease(
    database: AsyncConnection, window: uuid.UUID, *, silent_days: float = 500, **more: Any
) -> uuid.UUID:
    told: dict[str, Any] = {
        "id": uuid.uuid4(), "window_id": window, "spool": "s", "holder": "h", "granted_nusd": 10,
        "settled_nusd": 10, "expires_at": ago(silent_days), **more,
    }  # fmt: skip
    await insert(database, "routing_lease", told)
    return uuid.UUID(str(told["id"]))


async def insert(database: AsyncConnection, table: str, told: dict[str, Any]) -> None:
    marks = ", ".join(["%s"] * len(told))
    insertion = f"INSERT INTO {table} ({', '.join(told)}) VALUES ({marks})"  # noqa: S608
    await database.execute(insertion, list(told.values()))


def ago(days: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(days=days)


async def left(database: AsyncConnection, table: str) -> set[uuid.UUID]:
    found = await database.execute(f"SELECT id FROM routing_{table}")  # noqa: S608
    return {row[0] for row in await found.fetchall()}


async def test_periods_that_are_long_over_go_with_all_that_is_theirs(
    database: AsyncConnection,
) -> None:
    old = await a_window(database)
    await a_lease(database, old, closed=True, settled_nusd=3)
    await a_lease(database, old)
    kept = {
        await a_window(database, ended_days=DAYS - 1),
        await a_window(database, ended_days=None, period="total"),
        await a_window(database, leased_nusd=5),
    }
    assert await tidy(database, days=DAYS) == (1, 2)
    assert await left(database, "budgetwindow") == kept
    for table in ("budgetspend", "budgetalert"):
        found = await database.execute(f"SELECT window_id FROM routing_{table}")  # noqa: S608
        assert {row[0] for row in await found.fetchall()} == kept
    assert await tidy(database, days=DAYS) == (0, 0)


async def test_leases_that_could_be_settled_stay_and_keep_their_period(
    database: AsyncConnection,
) -> None:
    window = await a_window(database, leased_nusd=9)
    held = await a_lease(database, window, settled_nusd=1)
    resting = await a_window(database)
    closed = await a_lease(database, resting, closed=True, settled_nusd=1, silent_days=29)
    for_good = await a_window(database, ended_days=None)
    living = await a_lease(database, for_good, silent_days=-0.001)
    await a_lease(database, for_good, closed=True)
    await a_lease(database, for_good, silent_days=31)
    lately = await a_window(database, ended_days=31)
    await a_lease(database, lately, silent_days=-0.001)
    assert await tidy(database, days=DAYS) == (0, 3)
    assert await left(database, "lease") == {held, closed, living}
    assert await left(database, "budgetwindow") == {window, resting, for_good, lately}
    # Whoever held it comes back.
    await statements.settle(database, {held.bytes: 9, closed.bytes: 4})
    rows = await database.execute(
        "SELECT id, spent_nusd, leased_nusd, overrun_nusd FROM routing_budgetwindow"
        " WHERE spent_nusd > 0"
    )
    assert set(await rows.fetchall()) == {(window, 9, 0, 0), (resting, 4, 0, 4)}
    assert await left(database, "straycharge") == set()


async def test_it_goes_in_batches(database: AsyncConnection, monkeypatch: Any) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "MOST_BATCHES", 2)
    for _ in range(5):
        await a_lease(database, await a_window(database))
    assert await tidy(database, days=DAYS) == (4, 4)
    assert await tidy(database, days=DAYS) == (1, 1)


async def test_who_settles_meanwhile_is_not_in_the_way(database: AsyncConnection) -> None:
    window = await a_window(database, leased_nusd=0)
    lease = await a_lease(database, window, closed=True, settled_nusd=3)
    other = await connect("tests")
    try:
        async with other.transaction():
            await statements.settle(other, {lease.bytes: 2})
            async with asyncio.timeout(5):
                assert await tidy(database, days=DAYS) == (0, 0)
    finally:
        await other.close()
    # It counted before it went, in the period that it was of.
    found = await database.execute("SELECT spent_nusd FROM routing_budgetwindow")
    assert await found.fetchall() == [(2,)]
    assert await tidy(database, days=DAYS) == (1, 1)


async def test_what_is_charged_to_what_is_gone_is_counted_apart(
    database: AsyncConnection,
) -> None:
    window = await a_window(database)
    lease = await a_lease(database, window, closed=True, settled_nusd=3)
    await a_window(database, id=SOFT, hard=False)
    await tidy(database, days=DAYS)
    charges = {lease.bytes: 7, SOFT.bytes: 20}
    for _ in range(2):
        await statements.settle(database, charges)
    found = await database.execute("SELECT id, nusd FROM routing_straycharge")
    assert await found.fetchall() == [(lease, 14)]
    # A soft budget's may only not have been described yet: it waits as long as any other.
    found = await database.execute("SELECT id, budget, spent_nusd FROM routing_budgetwindow")
    assert await found.fetchall() == [(SOFT, "", 40)]
    assert await tidy(database, days=DAYS) == (0, 0)
    await database.execute("UPDATE routing_budgetwindow SET updated_at = %s", [ago(DAYS + 1)])
    assert await tidy(database, days=DAYS) == (1, 0)
    found = await database.execute("SELECT id, nusd FROM routing_straycharge")
    assert set(await found.fetchall()) == {(lease, 14), (SOFT, 40)}


async def test_the_leader_does_it(database: AsyncConnection, redis: Redis) -> None:
    await a_window(database)
    days = partial(tidy, days=DAYS)
    leader = Leader(redis, dict, retention=Retention(30, 400), tidy=days)
    await leader.keep_house(database)
    assert await left(database, "budgetwindow") == set()


@pytest.mark.django_db
def test_the_api_tells_of_stray_charges(client: Client) -> None:
    assert client.get("/api/v1/ai/budgets").json()["stray_usd"] == 0
    StrayCharge.objects.create(id=uuid.uuid4(), nusd=10**9)
    StrayCharge.objects.create(id=uuid.uuid4(), nusd=5 * 10**8)
    assert stray_nusd() == 15 * 10**8
    assert client.get("/api/v1/ai/budgets").json()["stray_usd"] == 1.5
    assert BudgetWindow.objects.count() == 0

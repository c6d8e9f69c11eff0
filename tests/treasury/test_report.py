"""How budgets stand, by API, command line and admin, and the thresholds that are told once."""

import asyncio
import datetime as dt
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from orchestra_site import access
from routing.admin.balance import HEIGHT
from routing.engine.callers import Caller
from routing.engine.catalog import BudgetSpec, PolicyDocument
from routing.engine.windows import window_of
from routing.models import ApiKey, Budget, BudgetAlert, BudgetSpend, BudgetWindow, Tenant
from routing.policy.database import in_thread
from routing.treasury.conductor import Thresholds
from routing.treasury.report import forecast_nusd, standings
from telemetry.database import AsyncConnection, connect
from telemetry.events import CostThresholdExceeded
from tests.cast import key_for

NOON = dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC)


def stored(name: str = "team", *, spent: int = 0, held: int = 0, **more: Any) -> Budget:
    told = {"scope": "all", "limit_usd": Decimal(1), "period": "day", **more}
    budget = Budget.objects.create(name=name, **told)
    window = window_of(budget.spec(), dt.datetime.now(dt.UTC).timestamp())
    starts_at = dt.datetime.fromtimestamp(window.starts_at, dt.UTC)
    row = BudgetWindow.objects.create(
        id=UUID(bytes=window.id),
        budget=name,
        period=window.period,
        starts_at=starts_at,
        limit_nusd=10**9,
        spent_nusd=spent,
        leased_nusd=held,
    )
    for hour, nusd in ((1, spent // 2), (2, spent - spent // 2)):
        BudgetSpend.objects.create(window=row, at=starts_at + dt.timedelta(hours=hour), nusd=nusd)
    return budget


@pytest.mark.django_db
def test_the_api_says_what_is_spent_held_and_left(client: Client) -> None:
    stored(spent=4 * 10**8, held=10**8)
    stored("other", period="total", hard=False, when_exhausted="warn")
    told = client.get("/api/v1/ai/budgets").json()
    assert told["total"] == 2
    other, team = told["budgets"]
    assert (team["spent_usd"], team["held_usd"], team["remaining_usd"]) == (0.4, 0.1, 0.5)
    assert [point["spent_usd"] for point in team["series"]] == [0.2, 0.4]
    assert team["window_end"] > team["window_start"]
    assert not team["exhausted"]
    assert (other["forecast_usd"], other["window_end"]) == (None, None)


@pytest.mark.django_db
def test_a_key_sees_its_own_tenants_budgets_and_everybodys(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("acme", "rival"):
        tenant = Tenant.objects.create(name=name)
        digest = key_for(f"ao_{name}").digest
        ApiKey.objects.create(name=f"{name}-ci", tenant=tenant, prefix="ao_", digest=digest)
        stored(f"{name}-money", scope="tenant", subject=name)
        stored(f"{name}-ci-money", scope="key", subject=f"{name}-ci")
        stored(f"{name}-tag-money", scope="tag", subject=name)
    stored("everything")
    monkeypatch.setattr(access, "identify", lambda sent: Caller(tenant="acme", key="acme-ci"))
    path = "/api/v1/ai/budgets"
    own = client.get(path, headers={"authorization": "Bearer ao_acme"}).json()
    names = [budget["name"] for budget in own["budgets"]]
    assert names == ["acme-ci-money", "acme-money", "everything"]
    assert client.get(path).json()["total"] == 7


@pytest.mark.django_db
def test_the_admin_shows_figures_and_a_chart(admin_client: Client) -> None:
    budget = stored(spent=4 * 10**8)
    listed = admin_client.get("/admin/routing/budget/").content.decode()
    assert "$0.400000 (40 %)" in listed
    page = admin_client.get(f"/admin/routing/budget/{budget.pk}/change/").content.decode()
    assert "<polyline" in page
    # Nothing spent yet is a line on the chart's lower edge, and has to be seen.
    shown = re.search(r'viewBox="0 (-\d+) \d+ (\d+)"', page)
    assert shown is not None
    assert int(shown[1]) < 0 < HEIGHT < int(shown[1]) + int(shown[2])
    assert admin_client.get("/admin/routing/budget/add/").status_code == 200


def test_a_forecast_goes_on_as_it_began() -> None:
    window = window_of(
        BudgetSpec(name="b", scope="all", period="day", limit_usd=Decimal(1)), NOON.timestamp()
    )
    assert forecast_nusd(window, 500, NOON.timestamp()) == 1000
    assert forecast_nusd(window, 500, window.starts_at + 5) is None


@pytest.mark.django_db
def test_a_budget_that_nobody_used_stands_at_nothing() -> None:
    Budget.objects.create(name="new", scope="all", limit_usd=Decimal(5))
    (one,) = standings(NOON)
    assert (one.spent_nusd, one.held_nusd, one.remaining_nusd) == (0, 0, 5 * 10**9)


@pytest.mark.django_db(transaction=True)
async def test_each_threshold_is_told_once_by_one_of_several_conductors() -> None:
    budget = await in_thread(lambda: stored(spent=85 * 10**7))
    spec = PolicyDocument(budgets=(budget.spec(),))
    told: list[CostThresholdExceeded] = []

    async def publish(event: CostThresholdExceeded, /, *, event_id: str, at: float) -> bool:
        told.append(event)
        return True

    async def conductor() -> None:
        watching = Thresholds(publish)
        watching.adopt(spec)
        connection: AsyncConnection = await connect("tests")
        try:
            for _ in range(5):
                await watching.look(connection)
        finally:
            await connection.close()

    await asyncio.gather(*(conductor() for _ in range(4)))
    assert sorted(event.percent for event in told) == [50, 80]
    event = min(told, key=lambda e: e.percent)
    assert (event.budget, event.estimated_cost, event.threshold) == ("team", 0.85, 0.5)
    assert await in_thread(BudgetAlert.objects.count) == 2

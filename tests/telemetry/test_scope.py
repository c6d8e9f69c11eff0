"""With an API key one sees one's own tenant's figures."""

from typing import Any

import pytest
from django.test import AsyncClient, Client

from orchestra_site import access
from routing.engine.callers import Caller
from telemetry.database import AsyncConnection
from telemetry.shipper.store import CREATE_INCOMING, store
from tests.telemetry.records import a_record
from tests.telemetry.test_costs_api import COSTS, SAVINGS, around, spent
from tests.telemetry.test_export import PATH, collected

ACME = {"authorization": "Bearer ao_whatever"}


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a key comes from acme."""
    monkeypatch.setattr(access, "identify", lambda sent: Caller(tenant="acme", key="ci"))


@pytest.mark.django_db
class TestReports:
    @pytest.mark.parametrize("path", [COSTS, SAVINGS])
    def test_only_ones_own(self, client: Client, acme: None, path: str) -> None:
        spent(tenant="acme", measured_count=1)
        spent(tenant="rival", measured_count=1)
        everything = client.get(path, around()).json()["total"]["requestCount"]
        for asked in (around(), around(tenant="acme")):
            own = client.get(path, asked, headers=ACME).json()["total"]["requestCount"]
            assert (own, everything) == (1, 2)

    @pytest.mark.parametrize("path", [COSTS, SAVINGS])
    def test_somebody_elses_are_refused(self, client: Client, acme: None, path: str) -> None:
        answer = client.get(path, around(tenant="rival"), headers=ACME)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_the_export_too(database: AsyncConnection, web: AsyncClient, acme: None) -> None:
    await database.execute(CREATE_INCOMING)
    await store(database, [a_record(1, tenant="acme"), a_record(2, tenant="rival")])

    async def exported(**headers: str) -> bytes:
        answer: Any = await web.get(PATH, headers=headers)
        return await collected(answer.streaming_content)

    assert b"req-00000002" not in await exported(**ACME)
    assert b"req-00000001" in await exported(**ACME)
    assert b"req-00000002" in await exported()

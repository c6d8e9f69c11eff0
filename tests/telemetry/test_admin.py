"""The admin pages of what happened: there to read, not to change."""

import datetime as dt
import uuid
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from telemetry.admin.base import BoundedPaginator
from telemetry.admin.costs import usd
from telemetry.models import ModelMetric, OrchestratorRequest, SystemResource
from tests.telemetry.test_costs_api import spent

pytestmark = pytest.mark.django_db
PAGES = ["orchestratorrequest", "modelmetric", "systemresource"]


def a_request(number: int, **changes: Any) -> OrchestratorRequest:
    fields: dict[str, Any] = {
        "id": uuid.uuid4(), "request_id": f"req-{number}", "kind": "route", "task_type": "code",
        "priority": "normal", "selected_model_id": "gone:7b", "endpoint": "e",
        "chosen_model": "gone:7b",
        "fallback_used": False, "degraded": False, "reason": "why", "success": True,
        "status": 200,
        "error_type": "", "response_time_ms": 1, "selection_time_us": 1, "first_token_ms": 0,
        "prompt_tokens": 1, "completion_tokens": 1, "usage_estimated": False, "cost_estimate": 0.5,
        "cost_nusd": 5, "cost_known": True, "cost_limit_nusd": 0, "estimated_cost_nusd": 0,
        "resource_pressure": 0.5, "stream": False, "simulated": False, "worker": "web-0",
        "attempts": [],
        "created_at": timezone.now(),
    }  # fmt: skip
    return OrchestratorRequest.objects.create(**{**fields, **changes})


@pytest.fixture
def stored(db: None) -> dict[str, Any]:
    return {
        "orchestratorrequest": a_request(1),
        "modelmetric": ModelMetric.objects.create(model_name="m:7b"),
        "systemresource": SystemResource.objects.create(
            memory_available_gb=1, memory_free_gb=1, memory_total_gb=2, cpu_usage_percent=3,
            swap_used_percent=4, recorded_at=timezone.now(),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_lists_and_shows(admin_client: Client, stored: dict[str, Any], page: str) -> None:
    assert admin_client.get(f"/admin/telemetry/{page}/").status_code == 200
    one = admin_client.get(f"/admin/telemetry/{page}/{stored[page].pk}/change/")
    assert one.status_code == 200
    assert b'name="_save"' not in one.content


@pytest.mark.parametrize("page", PAGES)
def test_nothing_can_be_changed(admin_client: Client, stored: dict[str, Any], page: str) -> None:
    at = f"/admin/telemetry/{page}/{stored[page].pk}"
    refused = [f"/admin/telemetry/{page}/add/", f"{at}/change/", f"{at}/delete/"]
    assert [admin_client.post(url, {}).status_code for url in refused] == [403, 403, 403]


def test_a_request_is_found_by_its_id(admin_client: Client) -> None:
    for number in (1, 2):
        a_request(number)
    page = admin_client.get("/admin/telemetry/orchestratorrequest/", {"q": "req-2"}).content
    assert b"req-2" in page
    assert b"req-1" not in page


def test_counting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        a_request(number)
    monkeypatch.setattr("telemetry.admin.base.COUNT_UP_TO", 2)
    assert BoundedPaginator(OrchestratorRequest.objects.order_by("pk"), 10).count == 2


def test_a_day_is_looked_at_unless_more_is_asked_for(admin_client: Client) -> None:
    a_request(1)
    a_request(2, created_at=timezone.now() - dt.timedelta(days=2))
    path = "/admin/telemetry/orchestratorrequest/"

    def found(**query: str) -> list[bool]:
        page = admin_client.get(path, query).content
        return [b"req-1" in page, b"req-2" in page]

    assert found() == found(within="24h") == found(within="nonsense") == [True, False]
    assert found(within="all") == found(within="7d") == [True, True]
    # Whoever searches by id means it wherever it is.
    assert found(q="req-2")[1]


@pytest.mark.parametrize("name", ["tenant", "key"])
def test_requests_of_one_tenant_or_key(admin_client: Client, name: str) -> None:
    a_request(1, **{name: "acme"})
    a_request(2, **{name: "other"})
    page = admin_client.get("/admin/telemetry/orchestratorrequest/", {name: "acme"}).content
    assert b"req-1" in page
    assert b"req-2" not in page


class TestCosts:
    PATH = "/admin/telemetry/requestday/"

    def test_what_was_spent_and_saved(self, admin_client: Client) -> None:
        spent(
            timezone.now(), tenant="acme", cost_nusd=12_340_000_000, request_count=1234,
            measured_count=1000, measured_cost_nusd=10**10, measured_baseline_nusd=4 * 10**10,
            estimated_count=2, estimated_cost_nusd=3 * 10**9, estimated_baseline_nusd=10**9,
            uncompared_count=3, simulated_count=7,
        )  # fmt: skip
        page = admin_client.get(self.PATH).content.decode()
        for shown in (
            "$12.34",
            "$41.00",
            "$28.00",
            "68.3 %",
            "$30.00",
            "−$2.0000",
            "1,234",
            "3 could not be compared",
            "7 of these requests were answered by",
        ):
            assert shown in page  # fmt: skip

    @pytest.mark.parametrize("by", ["model", "tenant", "task", "day", "nonsense"])
    def test_every_group_and_any_nonsense_is_a_page(self, admin_client: Client, by: str) -> None:
        spent(timezone.now(), tenant="<b>acme</b>", model_name="m&m")
        asked = {"by": by, "days": "7", "tenant": "<b>acme</b>", "model": "", "zzz": "1"}
        page = admin_client.get(self.PATH, asked)
        assert page.status_code == 200
        assert b"<b>acme" not in page.content

    def test_an_empty_time_says_so(self, admin_client: Client) -> None:
        assert b"Nothing was asked in this time." in admin_client.get(self.PATH).content

    def test_only_for_admins(self, client: Client) -> None:
        assert client.get(self.PATH).status_code == 302


@pytest.mark.parametrize(
    ("nusd", "shown"),
    [(0, "$0.00"), (12_345_678_901, "$12.35"), (50_000_000, "$0.0500"), (123, "$0.0000001"),
     (-5 * 10**9, "−$5.0000"), (1_234_567 * 10**9, "$1,234,567.00")],
)  # fmt: skip
def test_amounts_are_for_people(nusd: int, shown: str) -> None:
    assert usd(nusd) == shown

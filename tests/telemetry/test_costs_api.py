"""GET /api/v1/ai/analytics/costs and /savings over a real database."""

import datetime as dt
import random
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from telemetry.analytics import MOST_GROUPS, Period
from telemetry.models import RequestDay, RequestHour

COSTS, SAVINGS = "/api/v1/ai/analytics/costs", "/api/v1/ai/analytics/savings"
NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
NUSD = 10**9
pytestmark = pytest.mark.django_db


def spent(at: dt.datetime = NOON, **changes: Any) -> None:
    """Store one request's sums as the shipper does: in its hour and in its day."""
    fields: dict[str, Any] = {
        "tenant": "acme",
        "model_name": "m",
        "task_type": "code",
        "kind": "route",
    }
    fields |= {"request_count": 1, "success_count": 1, **changes}
    for table, start in (
        (RequestHour, at.replace(minute=0)), (RequestDay, at.replace(hour=0, minute=0)),
    ):  # fmt: skip
        key = {name: fields[name] for name in ("tenant", "model_name", "task_type", "kind")}
        row, made = table.objects.get_or_create(started_at=start, **key, defaults=fields)
        if not made:
            for name in fields.keys() - key.keys():
                setattr(row, name, getattr(row, name) + fields[name])
            row.save()


def around(**more: str) -> dict[str, str]:
    return {"from": "2026-11-20", "to": "2026-11-27", **more}


def test_costs_answer_the_contract(client: Client) -> None:
    spent(
        prompt_tokens=5, cached_tokens=2, completion_tokens=6, cost_nusd=2_500_000,
        fallback_count=1, simulated_count=1, cost_unknown_count=1,
    )  # fmt: skip
    spent(model_name="n", success_count=0)
    body = client.get(COSTS, around()).json()
    row = {
        "requestCount": 1, "successCount": 1, "errorCount": 0, "fallbackCount": 1,
        "simulatedCount": 1, "promptTokens": 5, "cachedTokens": 2, "completionTokens": 6,
        "costUsd": 0.0025, "costUnknownCount": 1,
    }  # fmt: skip
    assert body["groups"][0] == {"group": "m", **row}
    assert body["groups"][1]["errorCount"] == 1
    assert body["total"] == {**row, "requestCount": 2, "errorCount": 1}
    del body["groups"], body["total"]
    assert body == {
        "from": "2026-11-20T00:00:00Z", "to": "2026-11-27T00:00:00Z", "groupBy": "model",
        "moreGroups": 0,
    }  # fmt: skip


def test_savings_tell_measured_and_estimated_apart(client: Client) -> None:
    spent(measured_count=2, measured_cost_nusd=1 * NUSD, measured_baseline_nusd=4 * NUSD)
    spent(estimated_count=1, estimated_cost_nusd=3 * NUSD, estimated_baseline_nusd=2 * NUSD)
    spent(uncompared_count=5, cost_nusd=100 * NUSD)
    total = client.get(SAVINGS, around()).json()["total"]
    assert total == {
        "requestCount": 3, "costUsd": 4.0, "baselineUsd": 6.0, "savedUsd": 2.0,
        "savedPercent": 33.33,
        "measured": {"requestCount": 2, "costUsd": 1.0, "baselineUsd": 4.0, "savedUsd": 3.0,
                     "savedPercent": 75.0},
        "estimated": {"requestCount": 1, "costUsd": 3.0, "baselineUsd": 2.0, "savedUsd": -1.0,
                      "savedPercent": -50.0},
        "notComparedCount": 5, "simulatedCount": 0,
    }  # fmt: skip


def test_nothing_is_no_percentage(client: Client) -> None:
    total = client.get(SAVINGS).json()["total"]
    assert (total["requestCount"], total["savedUsd"], total["savedPercent"]) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        ("tenant", [("acme", 3), ("", 1)]),
        ("model", [("n", 2), ("m", 2)]),
        ("task", [("code", 3), ("analysis", 1)]),
        ("day", [("2026-11-22", 1), ("2026-11-23", 3)]),
    ],
)
def test_groups(client: Client, group: str, wanted: list[tuple[str, int]]) -> None:
    spent(model_name="n", cost_nusd=5)
    spent(model_name="n", task_type="analysis", cost_nusd=1)
    spent(NOON - dt.timedelta(days=1), cost_nusd=2)
    spent(tenant="", cost_nusd=3)
    groups = client.get(COSTS, around(groupBy=group)).json()["groups"]
    assert [(g["group"], g["requestCount"]) for g in groups] == wanted


def test_a_report_can_be_narrowed(client: Client) -> None:
    spent()
    spent(tenant="other")
    spent(model_name="n")
    spent(task_type="analysis")
    only = {"tenant": "acme", "model": "m", "task": "code"}
    assert client.get(COSTS, around()).json()["total"]["requestCount"] == 4
    for name, value in only.items():
        assert client.get(COSTS, around(**{name: value})).json()["total"]["requestCount"] == 3
    assert client.get(COSTS, around(**only)).json()["total"]["requestCount"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_hours_at_the_ends_and_days_between_are_each_request_once(
    client: Client, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311
    times = [NOON + dt.timedelta(hours=dice.randrange(120)) for _ in range(60)]
    for at in times:
        spent(at)
    for _ in range(12):
        start = NOON + dt.timedelta(hours=dice.randrange(-5, 120))
        end = start + dt.timedelta(hours=dice.randrange(1, 100))
        asked = {"from": start.isoformat(), "to": end.isoformat(), "groupBy": "day"}
        body = client.get(COSTS, asked).json()
        assert body["total"]["requestCount"] == sum(start <= at < end for at in times)
        days = [g["group"] for g in body["groups"]]
        assert days == sorted({f"{at:%Y-%m-%d}" for at in times if start <= at < end})


def test_parts_of_hours_are_rounded_outwards_and_said(client: Client) -> None:
    spent()
    asked = {"from": "2026-11-23T12:59:59.5Z", "to": "2026-11-23T15:30:00+02:00"}
    body = client.get(COSTS, asked).json()
    assert (body["from"], body["to"]) == ("2026-11-23T12:00:00Z", "2026-11-23T14:00:00Z")
    assert body["total"]["requestCount"] == 1


def test_the_last_thirty_days_by_default(client: Client) -> None:
    body = client.get(COSTS).json()
    start, end = (dt.datetime.fromisoformat(body[name]) for name in ("from", "to"))
    assert dt.timedelta(days=30) <= end - start <= dt.timedelta(days=30, hours=1)


def test_groups_are_bounded_and_the_total_is_whole(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_GROUPS == 1000
    monkeypatch.setattr("telemetry.analytics.MOST_GROUPS", 2)
    for number in range(5):
        spent(tenant=f"t{number}", cost_nusd=number)
    body = client.get(COSTS, around(groupBy="tenant")).json()
    assert [g["group"] for g in body["groups"]] == ["t4", "t3"]
    assert (body["moreGroups"], body["total"]["requestCount"]) == (3, 5)


@pytest.mark.parametrize("path", [COSTS, SAVINGS])
@pytest.mark.parametrize(
    ("query", "pointer", "words"),
    [
        ("from=yesterday", "/from", "such as 2026-11-23"),
        ("to=2026-13-01", "/to", "such as 2026-11-23"),
        ("from=", "/from", "such as 2026-11-23"),
        ("from=0001-01-01T00:00:00%2B14:00", "/from", "out of range"),
        ("from=2019-12-31", "/from", "from 2020 to 2100"),
        ("to=9999-12-31T23:59:59-14:00", "/to", "out of range"),
        ("to=2101-01-01", "/to", "from 2020 to 2100"),
        ("from=2026-11-02&to=2026-11-01", "/from", "before `to`"),
        ("from=2026-11-02&to=2026-11-02", "/from", "before `to`"),
        ("from=2099-01-01", "/from", "before `to`"),
        ("from=2024-01-01&to=2026-01-01", "/from", "400 days"),
        ("groupBy=team", "/groupBy", "use one of tenant, model, task, day"),
        ("groupBy=", "/groupBy", "use one of tenant, model, task, day"),
        ("groupby=day", "/groupby", "did you mean groupBy?"),
        ("tenant=", "/tenant", "blank"),
        ("tenant=%00", "/tenant", "Null characters"),
        ("model=a&model=b", "/model", "Give it once"),
        ("zzz=1", "/zzz", "known are from, to, groupBy, tenant, model, task"),
    ],
)
def test_bad_parameters_are_refused_by_name(
    client: Client, path: str, query: str, pointer: str, words: str
) -> None:
    answer = client.get(f"{path}?{query}")
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"
    problem = answer.json()
    assert [(e["pointer"], words in e["detail"]) for e in problem["errors"]] == [(pointer, True)]


def test_names_are_values_and_never_sql(client: Client) -> None:
    spent(tenant="o'neil %s; --")
    body = client.get(COSTS, around(tenant="o'neil %s; --", groupBy="tenant")).json()
    assert [g["group"] for g in body["groups"]] == ["o'neil %s; --"]


def test_without_the_database_it_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("telemetry.api.costs.report", away)
    assert client.get(COSTS).status_code == 503


@given(
    st.integers(1_577_836_800_000_000, 3_786_912_000_000_000),  # microseconds, 2020 to 2090
    st.timedeltas(dt.timedelta(microseconds=1), dt.timedelta(days=400)),
)
def test_a_period_holds_what_was_asked_in_whole_hours(start_us: int, length: dt.timedelta) -> None:
    start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=start_us)
    period = Period.of(start, start + length)
    assert period.start <= start < start + length <= period.end
    assert period.end - period.start < length + dt.timedelta(hours=2)
    assert all(at.minute == at.second == at.microsecond == 0 for at in (period.start, period.end))
    first, last = period.days
    assert period.start <= first <= last <= period.end
    assert first == last or first.hour == last.hour == 0

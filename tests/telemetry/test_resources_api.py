"""GET /api/v1/ai/resources/metrics over a real database."""

import datetime as dt
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from telemetry.histogram import bucket, middle
from telemetry.models import RequestSpan, SystemResource

PATH = "/api/v1/ai/resources/metrics"
pytestmark = pytest.mark.django_db


def stored(seconds_ago: float, available_gb: float = 4.0) -> SystemResource:
    return SystemResource.objects.create(
        memory_available_gb=available_gb,
        memory_free_gb=1.0,
        memory_total_gb=8.0,
        cpu_usage_percent=10.0,
        swap_used_percent=0.0,
        recorded_at=timezone.now() - dt.timedelta(seconds=seconds_ago),
    )


def span(minutes_ago: int, seconds: int = 60, **changes: Any) -> RequestSpan:
    at = (timezone.now() - dt.timedelta(minutes=minutes_ago)).replace(second=0, microsecond=0)
    if seconds == 3600:
        at = at.replace(minute=0)
    fields = {"started_at": at, "seconds": seconds, "kind": "call", "request_count": 1}
    return RequestSpan.objects.create(**{**fields, **changes})


def test_it_answers_the_contract(client: Client) -> None:
    answer = client.get(PATH)
    assert answer.status_code == 200
    body = answer.json()
    assert list(body) == [
        "current", "history", "requests", "memoryPressure", "hosts", "admission", "overruns"
    ]  # fmt: skip
    assert list(body["current"]) == [
        "id", "memory_available_gb", "memory_free_gb", "memory_total_gb", "cpu_usage_percent",
        "swap_used_percent", "recorded_at",
    ]  # fmt: skip
    assert body["history"] == body["requests"] == []
    expected = 1 - body["current"]["memory_available_gb"] / body["current"]["memory_total_gb"]
    assert body["memoryPressure"] == pytest.approx(expected)


def test_history_is_oldest_first_and_within_the_hours(client: Client) -> None:
    samples = [stored(seconds) for seconds in (5, 600, 3500, 3700)]
    history = client.get(PATH, {"includeHistory": "true"}).json()["history"]
    assert [row["id"] for row in history] == [str(s.id) for s in samples[2::-1]]


def test_history_is_down_sampled_to_the_worst_of_each_span(client: Client) -> None:
    now = timezone.now()
    SystemResource.objects.bulk_create(
        SystemResource(
            memory_available_gb=1.0 if n == 700 else 4.0, memory_free_gb=1.0, memory_total_gb=8.0,
            cpu_usage_percent=n % 2, swap_used_percent=0.0,
            recorded_at=now - dt.timedelta(seconds=5 * n + 1),
        )
        for n in range(2000)
    )  # fmt: skip
    history = client.get(PATH, {"includeHistory": "true", "hours": "3"}).json()["history"]
    assert 400 <= len(history) <= 501
    assert [row["memory_available_gb"] for row in history].count(1.0) == 1
    assert history == sorted(history, key=lambda row: row["recorded_at"])


def test_requests_by_the_minute(client: Client) -> None:
    span(
        5, request_count=4, success_count=3, fallback_count=1, response_time_total_ms=1000,
        response_time_max_ms=700, prompt_tokens=5, completion_tokens=6, cost_nusd=2_500_000,
        response_buckets=[bucket(100), bucket(700)], response_counts=[3, 1],
    )  # fmt: skip
    span(
        5, kind="select", request_count=10, success_count=10, response_time_total_ms=3,
        response_buckets=[0], response_counts=[10],
    )  # fmt: skip
    span(90)
    span(5, 3600)
    (found,) = client.get(PATH).json()["requests"]
    started_at = dt.datetime.fromisoformat(found.pop("started_at"))
    assert abs(timezone.now() - started_at - dt.timedelta(minutes=5)) < dt.timedelta(minutes=1.5)
    assert found == {
        "seconds": 60, "request_count": 14, "success_count": 13, "error_count": 1,
        "fallback_count": 1, "avg_response_time_ms": 250.0, "max_response_time_ms": 700,
        "p50_response_time_ms": middle(bucket(100)), "p95_response_time_ms": middle(bucket(700)),
        "p99_response_time_ms": middle(bucket(700)),
        "prompt_tokens": 5, "completion_tokens": 6, "cost_usd": 0.0025,
    }  # fmt: skip


def test_requests_by_the_hour_beyond_six_hours(client: Client) -> None:
    for minutes_ago in range(0, 24 * 60, 60):
        span(minutes_ago, 3600, request_count=2)
        span(minutes_ago, 60)
    found = client.get(PATH, {"hours": 24}).json()["requests"]
    assert {row["seconds"] for row in found} == {3600}
    assert sum(row["request_count"] for row in found) == 48
    assert len(found) == 24


@pytest.mark.parametrize(
    ("query", "pointer", "words"),
    [
        ("hours=0", "/hours", "greater than or equal to 1"),
        ("hours=721", "/hours", "less than or equal to 720"),
        ("hours=many", "/hours", "valid integer"),
        ("hours=", "/hours", "valid integer"),
        ("hours=1.5", "/hours", "valid integer"),
        ("hours=%00", "/hours", "valid integer"),
        ("hours=" + "9" * 5000, "/hours", "too large"),
        ("includeHistory=maybe", "/includeHistory", "valid boolean"),
        ("hour=3", "/hour", "did you mean hours?"),
        ("include_history=true", "/include_history", "did you mean includeHistory?"),
        ("zzz=1", "/zzz", "known are hours, includeHistory"),
        ("hours=1&hours=2", "/hours", "Give it once"),
    ],
)
def test_bad_parameters_are_refused_by_name(
    client: Client, query: str, pointer: str, words: str
) -> None:
    answer = client.get(f"{PATH}?{query}")
    assert answer.status_code == 400
    assert answer["content-type"] == "application/problem+json"
    problem = answer.json()
    assert [(e["pointer"], words in e["detail"]) for e in problem["errors"]] == [(pointer, True)]


def test_every_mistake_is_told_at_once(client: Client) -> None:
    problem = client.get(f"{PATH}?hours=0&includehistory=1").json()
    assert {e["pointer"] for e in problem["errors"]} == {"/hours", "/includehistory"}


def test_without_the_database_it_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("telemetry.queries.request_metrics", away)
    answer = client.get(PATH)
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The database does not answer; see /api/v1/health."

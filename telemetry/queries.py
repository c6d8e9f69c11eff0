"""What the control plane reads of the past. Every query is bounded, whatever the tables hold."""

import datetime as dt
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db import connection

from telemetry.folding import CALL
from telemetry.histogram import quantiles
from telemetry.models import ModelMetric, SystemResource
from telemetry.sampler import HostSample

HISTORY_POINTS = 500
LONGEST_HOURS = 720
# Up to here a bucket of requests is a minute, beyond it an hour: at most 720 of them.
MINUTES_UP_TO_HOURS = 6

HISTORY = """
SELECT (array_agg(id))[1], min(memory_available_gb), min(memory_free_gb), max(memory_total_gb),
       avg(cpu_usage_percent), max(swap_used_percent), max(recorded_at)
FROM telemetry_systemresource
WHERE recorded_at > %(since)s AND recorded_at <= %(until)s
GROUP BY date_bin(make_interval(secs => %(seconds)s), recorded_at, %(since)s)
ORDER BY max(recorded_at)
"""
SPANS = """
SELECT started_at, kind, request_count, success_count, fallback_count, response_time_total_ms,
       response_time_max_ms, prompt_tokens, completion_tokens, cost_nusd,
       response_buckets, response_counts
FROM telemetry_requestspan WHERE seconds = %(seconds)s AND started_at >= %(since)s
ORDER BY started_at
"""


@dataclass(frozen=True, slots=True)
class RequestMetric:
    """Requests that came within `seconds` from `started_at` on."""

    started_at: dt.datetime
    seconds: int
    request_count: int
    success_count: int
    error_count: int
    fallback_count: int
    avg_response_time_ms: float  # of those that called a model; 0 without any
    p50_response_time_ms: int | None  # of those too, within 2 %; None without any
    p95_response_time_ms: int | None
    p99_response_time_ms: int | None
    max_response_time_ms: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


def resource_history(hours: int, now: dt.datetime) -> list[SystemResource]:
    """Return how this fleet's memory and CPU went, oldest first, in at most 500 points.

    A point stands for an equal part of the time: the least memory, the mean CPU, the most swap of
    its samples, and the time of the last of them.
    """
    seconds = math.ceil(hours * 3600 / HISTORY_POINTS)
    with connection.cursor() as cursor:
        since = now - dt.timedelta(hours=hours)
        cursor.execute(HISTORY, {"since": since, "until": now, "seconds": seconds})
        return [SystemResource(*row) for row in cursor.fetchall()]


def request_metrics(hours: int, now: dt.datetime) -> list[RequestMetric]:
    """Return requests by the minute (up to 6 hours) or by the hour, oldest first.

    Spans without a request are left out; the first one may begin before `hours` ago, whole.
    """
    seconds = 60 if hours <= MINUTES_UP_TO_HOURS else 3600
    since = (now - dt.timedelta(hours=hours)).replace(second=0, microsecond=0)
    if seconds == 3600:
        since = since.replace(minute=0)
    with connection.cursor() as cursor:
        cursor.execute(SPANS, {"since": since, "seconds": seconds})
        rows = cursor.fetchall()
    by_span = groupby(rows, key=itemgetter(0))
    return [_request_metric(started_at, seconds, list(kinds)) for started_at, kinds in by_span]


def _request_metric(
    started_at: dt.datetime, seconds: int, kinds: list[tuple[Any, ...]]
) -> RequestMetric:
    """Put the kinds of one span together; a choice alone says nothing of how long answers take."""
    calls = [row for row in kinds if row[1] == CALL]
    count, success, fallbacks, prompt, completion, nusd = (
        sum(row[column] for row in kinds) for column in (2, 3, 4, 7, 8, 9)
    )
    called = sum(row[2] for row in calls)
    buckets, counts = calls[0][10:12] if calls else ((), ())
    p50, p95, p99 = quantiles(buckets, counts, 0.50, 0.95, 0.99)
    return RequestMetric(
        started_at=started_at,
        seconds=seconds,
        request_count=count,
        success_count=success,
        error_count=count - success,
        fallback_count=fallbacks,
        avg_response_time_ms=round(sum(row[5] for row in calls) / called, 3) if called else 0.0,
        p50_response_time_ms=p50,
        p95_response_time_ms=p95,
        p99_response_time_ms=p99,
        max_response_time_ms=max(row[6] for row in kinds),
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_usd=nusd / 1e9,
    )


def as_resource(host: HostSample) -> SystemResource:
    """Return a sample as the row it would be stored as."""
    return SystemResource(
        memory_available_gb=host.available_gb,
        memory_free_gb=host.free_gb,
        memory_total_gb=host.total_gb,
        cpu_usage_percent=host.cpu_percent,
        swap_used_percent=host.swap_percent,
        recorded_at=dt.datetime.fromtimestamp(host.at, dt.UTC),
    )


def model_metrics(names: Iterable[str]) -> dict[str, ModelMetric]:
    """Return the row of each model by name; a model that has none yet gets one."""
    wanted = sorted(set(names))
    found = {m.model_name: m for m in ModelMetric.objects.filter(model_name__in=wanted)}
    missing = [name for name in wanted if name not in found]
    if missing:
        # The shipper may have just made one of them.
        new = [ModelMetric(model_name=name) for name in missing]
        ModelMetric.objects.bulk_create(new, ignore_conflicts=True)
        found |= {m.model_name: m for m in ModelMetric.objects.filter(model_name__in=missing)}
    return found

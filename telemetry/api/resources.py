"""GET /api/v1/ai/resources/metrics: this host's memory and CPU, and requests over time."""

import asyncio
from typing import Any

from asgiref.sync import async_to_sync
from django.db import DatabaseError
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from telemetry import queries
from telemetry.api.problem import PROBLEMS, DatabaseAway
from telemetry.api.query import Query
from telemetry.models import SystemResource
from telemetry.offering_health import NewsBoard, read_board
from telemetry.queue_news import admission
from telemetry.redis_client import open_redis
from telemetry.sampler import sample

REDIS_LIMIT_S = 1.0


class SystemResourceSerializer(serializers.ModelSerializer[SystemResource]):
    """Memory and CPU of a host at one moment; sizes in GiB."""

    class Meta:
        model = SystemResource
        fields = (
            "id",
            "memory_available_gb",
            "memory_free_gb",
            "memory_total_gb",
            "cpu_usage_percent",
            "swap_used_percent",
            "recorded_at",
        )


class RequestMetricSerializer(serializers.Serializer[Any]):
    """Requests of a minute (up to 6 hours asked for) or an hour, if there were any."""

    started_at = serializers.DateTimeField()
    seconds = serializers.IntegerField(help_text="Length of the span: 60 or 3600.")
    request_count = serializers.IntegerField()
    success_count = serializers.IntegerField()
    error_count = serializers.IntegerField()
    fallback_count = serializers.IntegerField()
    avg_response_time_ms = serializers.FloatField(help_text="Of those that called a model.")
    max_response_time_ms = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    cost_usd = serializers.FloatField()


class EndpointQueueSerializer(serializers.Serializer[Any]):
    """Who runs and waits at an endpoint, over all workers heard of in the last ten seconds."""

    endpoint = serializers.CharField()
    running = serializers.IntegerField(help_text="Calls under way.")
    waiting = serializers.IntegerField(help_text="Requests that wait for a place.")
    limit = serializers.IntegerField(help_text="Most calls at once; found out unless it is set.")
    expectedWaitMs = serializers.IntegerField(help_text="Of a new request, in the fullest worker.")
    degraded = serializers.BooleanField(help_text="Workers cannot share places: Redis is away.")


class ResourceMetricsSerializer(serializers.Serializer[Any]):
    current = SystemResourceSerializer()
    history = SystemResourceSerializer(
        many=True, help_text="Oldest first, at most 500 points; empty unless asked for."
    )
    requests = RequestMetricSerializer(many=True)
    memoryPressure = serializers.FloatField(help_text="0 to 1: 1 - available / total.")
    admission = EndpointQueueSerializer(many=True, help_text="Empty while Redis is away.")


class ResourceMetricsView(APIView):
    """System resource metrics and usage history."""

    class Parameters(Query):
        hours = serializers.IntegerField(
            default=1,
            min_value=1,
            max_value=queries.LONGEST_HOURS,
            help_text="How far back `requests` and `history` go.",
        )
        includeHistory = serializers.BooleanField(
            default=False, help_text="Whether to fill `history`."
        )

    @extend_schema(
        operation_id="resource_metrics",
        tags=["status"],
        parameters=[Parameters],
        responses={200: ResourceMetricsSerializer, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        asked = self.Parameters.of(request)
        now, host = timezone.now(), sample()
        try:
            history = (
                queries.resource_history(asked["hours"], now) if asked["includeHistory"] else []
            )
            requests = queries.request_metrics(asked["hours"], now)
        except DatabaseError as exc:
            raise DatabaseAway from exc
        answer = {
            "current": queries.as_resource(host),
            "history": history,
            "requests": requests,
            "memoryPressure": host.pressure,
            "admission": current_admission(),
        }
        return Response(ResourceMetricsSerializer(answer).data)


def current_admission() -> list[dict[str, Any]]:
    """Return what the workers last said of their queues; nothing while Redis is away."""
    try:
        return admission(async_to_sync(_read_board)().queues.values())
    except (RedisError, OSError, TimeoutError):
        return []


async def _read_board() -> NewsBoard:
    async with asyncio.timeout(REDIS_LIMIT_S), open_redis(REDIS_LIMIT_S) as redis:
        return await read_board(redis)

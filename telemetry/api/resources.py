"""GET /api/v1/ai/resources/metrics: this host's memory and CPU, and requests over time."""

from typing import Any

from django.db import DatabaseError
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing.engine.pressure import LEVELS
from telemetry import queries
from telemetry.api.problem import PROBLEMS, DatabaseAway
from telemetry.api.query import Query
from telemetry.current_board import current_board
from telemetry.hosts import host_rows
from telemetry.models import SystemResource
from telemetry.offering_health import NewsBoard
from telemetry.overrun_news import overruns
from telemetry.queue_news import admission
from telemetry.sampler import sample


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
    p50_response_time_ms = serializers.IntegerField(
        allow_null=True, help_text="Of those too, within 2 %; null without any."
    )
    p95_response_time_ms = serializers.IntegerField(allow_null=True)
    p99_response_time_ms = serializers.IntegerField(allow_null=True)
    max_response_time_ms = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    cost_usd = serializers.FloatField()


class GpuSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    totalGb = serializers.FloatField()
    freeGb = serializers.FloatField()


class HostSerializer(serializers.Serializer[Any]):
    """One machine; `known` is false once it stopped reporting, and nothing is loaded there."""

    name = serializers.CharField()
    at = serializers.DateTimeField(help_text="When it was measured.")
    ageSeconds = serializers.FloatField()
    known = serializers.BooleanField()
    pressure = serializers.FloatField(help_text="0 to 1.")
    level = serializers.ChoiceField(choices=LEVELS)
    memoryAvailableGb = serializers.FloatField()
    memoryTotalGb = serializers.FloatField()
    swapUsedPercent = serializers.FloatField()
    psiSomePercent = serializers.FloatField(help_text="Some task waited for memory, last 10 s.")
    psiFullPercent = serializers.FloatField(help_text="All tasks waited for memory, last 10 s.")
    gpus = GpuSerializer(many=True)


class EndpointQueueSerializer(serializers.Serializer[Any]):
    """Who runs and waits at an endpoint, over all workers heard of in the last ten seconds."""

    endpoint = serializers.CharField()
    running = serializers.IntegerField(help_text="Calls under way.")
    waiting = serializers.IntegerField(help_text="Requests that wait for a place.")
    limit = serializers.IntegerField(help_text="Most calls at once; found out unless it is set.")
    expectedWaitMs = serializers.IntegerField(help_text="Of a new request, in the fullest worker.")
    degraded = serializers.BooleanField(help_text="Workers cannot share places: Redis is away.")


class OverrunsSerializer(serializers.Serializer[Any]):
    """Answers beyond what budgets held for them, in the workers that live, since each began."""

    count = serializers.IntegerField(
        help_text="Answers that cost more than was held, or claimed usage that cannot be true."
    )
    overrunUsd = serializers.FloatField(help_text="Dollars beyond what was held.")
    workers = serializers.IntegerField(help_text="How many workers have counted any.")


class ResourceMetricsSerializer(serializers.Serializer[Any]):
    current = SystemResourceSerializer()
    history = SystemResourceSerializer(
        many=True, help_text="Oldest first, at most 500 points; empty unless asked for."
    )
    requests = RequestMetricSerializer(many=True)
    memoryPressure = serializers.FloatField(help_text="0 to 1; see docs/routing.md.")
    hosts = HostSerializer(many=True, help_text="This host, then those that report.")
    admission = EndpointQueueSerializer(many=True, help_text="Empty while Redis is away.")
    overruns = OverrunsSerializer(help_text="All 0 while Redis is away.")


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
        # While Redis is away nobody else's news are known.
        board = current_board() or NewsBoard()
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
            "hosts": host_rows(host, board.hosts),
            "admission": admission(board.queues.values()),
            "overruns": overruns(board.overruns.values()),
        }
        return Response(ResourceMetricsSerializer(answer).data)

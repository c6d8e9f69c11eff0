"""GET /api/v1/ai/models/status: every enabled model, how it stands and what it has done."""

from typing import Any

from django.db import DatabaseError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing.engine.catalog import QUALITY_TIERS, SPEEDS, TASK_TYPES
from routing.models import Model
from telemetry import queries
from telemetry.api.problem import PROBLEMS, DatabaseAway
from telemetry.api.query import Query
from telemetry.current_board import current_board
from telemetry.models import ModelMetric
from telemetry.offering_health import (
    BREAKER_ORDER,
    KnownOffering,
    NewsBoard,
    OfferingHealth,
    best_breaker,
)
from telemetry.sampler import HostSample, sample
from telemetry.verdict import (
    MODEL_STATUSES,
    PART_STATES,
    VERDICTS,
    model_status,
    part_state,
    service_verdict,
)

METRICS = (
    "request_count",
    "success_count",
    "error_count",
    "avg_response_time_ms",
    "current_load",
    "memory_usage_mb",
    "last_used",
    "created_at",
    "updated_at",
)


class ModelEndpointSerializer(serializers.Serializer[Any]):
    """A model at one endpoint; null where nobody has looked yet."""

    endpoint = serializers.CharField()
    healthy = serializers.BooleanField()
    up = serializers.BooleanField(allow_null=True)
    offered = serializers.BooleanField(allow_null=True, help_text="The endpoint lists the model.")
    loaded = serializers.BooleanField()
    breaker = serializers.ChoiceField(choices=BREAKER_ORDER)
    simulated = serializers.BooleanField()
    note = serializers.CharField(allow_blank=True, help_text="Why somebody outside calls it unfit.")


class ModelStatusSerializer(serializers.Serializer[Any]):
    """A ModelMetric and how the model stands. Metrics are left out with includeMetrics=false."""

    id = serializers.UUIDField()
    model_name = serializers.CharField()
    request_count = serializers.IntegerField(required=False)
    success_count = serializers.IntegerField(required=False)
    error_count = serializers.IntegerField(required=False)
    avg_response_time_ms = serializers.FloatField(required=False)
    current_load = serializers.FloatField(
        required=False, help_text="Requests in flight, on average over ten seconds."
    )
    memory_usage_mb = serializers.FloatField(required=False)
    last_used = serializers.DateTimeField(required=False, allow_null=True)
    created_at = serializers.DateTimeField(required=False)
    updated_at = serializers.DateTimeField(required=False)
    healthy = serializers.BooleanField(help_text="Some endpoint can answer for it.")
    status = serializers.ChoiceField(choices=MODEL_STATUSES)
    breaker = serializers.ChoiceField(choices=BREAKER_ORDER, help_text="The best endpoint's.")
    loaded = serializers.BooleanField()
    simulated = serializers.BooleanField(help_text="Only simulated endpoints offer it.")
    capabilities = serializers.ListField(child=serializers.ChoiceField(choices=TASK_TYPES))
    qualityTier = serializers.ChoiceField(choices=QUALITY_TIERS)
    speed = serializers.ChoiceField(choices=SPEEDS)
    endpoints = ModelEndpointSerializer(many=True)


class SystemHealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=VERDICTS)
    redis = serializers.ChoiceField(choices=PART_STATES)
    memoryPressure = serializers.FloatField()
    memoryLevel = serializers.ChoiceField(choices=["normal", "elevated", "high", "critical"])
    availableMemoryGb = serializers.FloatField()
    cpuUsage = serializers.FloatField(help_text="Percent of all cores.")


class ModelsStatusSerializer(serializers.Serializer[Any]):
    models = ModelStatusSerializer(many=True)
    systemHealth = SystemHealthSerializer()
    totalModels = serializers.IntegerField()
    healthyModels = serializers.IntegerField()


class ModelsStatusView(APIView):
    """Status and metrics of all enabled models, by name."""

    class Parameters(Query):
        includeMetrics = serializers.BooleanField(
            default=True, help_text="Whether to add counts, times and load of each model."
        )

    @extend_schema(
        operation_id="models_status",
        tags=["status"],
        parameters=[Parameters],
        responses={200: ModelsStatusSerializer, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        asked = self.Parameters.of(request)
        board = current_board()
        try:
            models = _models(board or NewsBoard(), with_metrics=asked["includeMetrics"])
        except DatabaseError as exc:
            raise DatabaseAway from exc
        healthy = sum(model["healthy"] for model in models)
        return Response(
            {
                "models": models,
                "systemHealth": _system_health(sample(), models, redis=board is not None),
                "totalModels": len(models),
                "healthyModels": healthy,
            }
        )


def _models(board: NewsBoard, *, with_metrics: bool) -> list[dict[str, Any]]:
    models = list(
        Model.objects.filter(enabled=True).order_by("name").prefetch_related("offerings__endpoint")
    )
    rows = queries.model_metrics(model.name for model in models)
    return [_model(model, rows[model.name], board, with_metrics) for model in models]


def _model(model: Model, row: ModelMetric, board: NewsBoard, with_metrics: bool) -> dict[str, Any]:
    offerings = _offerings(model, board)
    return {
        "id": str(row.id),
        "model_name": model.name,
        **({name: getattr(row, name) for name in METRICS} if with_metrics else {}),
        "healthy": any(o.healthy for o in offerings),
        "status": model_status(offerings),
        "breaker": best_breaker(offerings),
        "loaded": any(o.loaded for o in offerings),
        "simulated": bool(offerings) and all(o.simulated for o in offerings),
        "capabilities": model.capabilities,
        "qualityTier": model.quality_tier,
        "speed": model.speed,
        "endpoints": [_endpoint(o) for o in offerings],
    }


def _offerings(model: Model, board: NewsBoard) -> list[OfferingHealth]:
    known = [
        KnownOffering(
            model=model.name,
            endpoint=offering.endpoint.name,
            upstream=offering.upstream_model or model.name,
            simulated=offering.endpoint.simulated,
        )
        for offering in model.offerings.all()
        if offering.enabled and offering.endpoint.enabled
    ]
    return [board.health(offering) for offering in sorted(known, key=lambda o: o.endpoint)]


def _endpoint(offering: OfferingHealth) -> dict[str, Any]:
    return {
        "endpoint": offering.endpoint,
        "healthy": offering.healthy,
        "up": offering.up,
        "offered": offering.offered,
        "loaded": offering.loaded,
        "breaker": offering.breaker,
        "simulated": offering.simulated,
        "note": offering.banned,
    }


def _system_health(
    host: HostSample, models: list[dict[str, Any]], *, redis: bool
) -> dict[str, Any]:
    return {
        "status": service_verdict(
            essential=[any(model["healthy"] for model in models)],
            desirable=[redis, *(e["up"] is not False for m in models for e in m["endpoints"])],
        ),
        "redis": part_state(redis),
        "memoryPressure": host.pressure,
        "memoryLevel": host.level,
        "availableMemoryGb": host.available_gb,
        "cpuUsage": host.cpu_percent,
    }

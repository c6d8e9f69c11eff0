"""GET /api/v1/ai/limits: how much of each key's and tenant's limits is used."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing.coordination.rates_board import Usage
from routing.engine.catalog import PolicyDocument
from routing.engine.rates import DIMENSIONS, Limit, limits_of
from routing.policy.export import document_from_orm
from routing.policy.usage import AWAY, current_usage
from telemetry.api.problem import PROBLEMS


class LimitsUnknown(APIException):
    """Raised when Redis is away: then each worker keeps its share, and nobody knows the sum."""

    status_code = 503
    default_detail = (
        "Redis does not answer, so nobody knows how much is used: each worker keeps to its"
        " share of the limits meanwhile. Try again."
    )
    default_code = problem_code = "redis_unavailable"


class LimitUsageSerializer(serializers.Serializer[Any]):
    """One limit with its use; counts are requests, tokens or streams."""

    of = serializers.ChoiceField(choices=("key", "tenant"))
    owner = serializers.CharField(help_text="Name of the key or tenant.")
    name = serializers.ChoiceField(choices=tuple(DIMENSIONS))
    most = serializers.IntegerField()
    period_s = serializers.IntegerField(help_text="0: at once, for streams.")
    used = serializers.IntegerField(help_text="More than `most` while a debt is repaid.")
    leased = serializers.IntegerField(help_text="Held by workers for what comes, or under way.")
    left = serializers.IntegerField()
    full_at = serializers.DateTimeField(
        allow_null=True, help_text="When all is left again if nobody asks; null if it is now."
    )
    workers = serializers.IntegerField(help_text="That hold some of it.")


class LimitsSerializer(serializers.Serializer[Any]):
    limits = LimitUsageSerializer(many=True)
    total = serializers.IntegerField()
    exhausted = serializers.IntegerField(help_text="Of which nothing is left now.")


class LimitsView(APIView):
    """The use of every limit of every enabled key and tenant, by owner."""

    @extend_schema(
        operation_id="limits", tags=["status"], responses={200: LimitsSerializer, **PROBLEMS}
    )
    def get(self, request: Request) -> Response:
        limits = list(_limits(document_from_orm()))
        try:
            rows = [_row(usage) for usage in current_usage(limits)]
        except AWAY as exc:
            raise LimitsUnknown from exc
        exhausted = sum(row["left"] + row["leased"] <= 0 for row in rows)
        return Response({"limits": rows, "total": len(rows), "exhausted": exhausted})


def _limits(document: PolicyDocument) -> Iterator[Limit]:
    for tenant in document.tenants:
        if tenant.enabled:
            yield from limits_of("tenant", tenant.name, tenant)
    for key in document.keys:
        if key.enabled:
            yield from limits_of("key", key.name, key)


def _row(usage: Usage) -> dict[str, Any]:
    limit, full_at_s = usage.limit, usage.full_at_s
    return {
        "of": limit.of,
        "owner": limit.owner,
        "name": limit.name,
        "most": limit.most,
        "period_s": limit.period_us // 1_000_000,
        "used": usage.used,
        "leased": usage.leased,
        "left": usage.left,
        "full_at": None if full_at_s is None else datetime.fromtimestamp(full_at_s, UTC),
        "workers": usage.workers,
    }

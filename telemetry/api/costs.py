"""GET /api/v1/ai/analytics/costs and /savings: what was spent, and what that saved."""

from typing import Any

from django.db import DatabaseError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from telemetry.analytics import COLUMN, Compared, Report, Spent, report
from telemetry.api.period import PeriodQuery, period_of
from telemetry.api.problem import NOT_YOURS, PROBLEMS, DatabaseAway
from telemetry.api.scope import tenant_for

GROUPS = [*COLUMN, "day"]


class CostSerializer(serializers.Serializer[Any]):
    """What requests did and cost, in US dollars."""

    requestCount = serializers.IntegerField()
    successCount = serializers.IntegerField()
    errorCount = serializers.IntegerField()
    fallbackCount = serializers.IntegerField()
    simulatedCount = serializers.IntegerField(help_text="Answered by the simulator.")
    promptTokens = serializers.IntegerField()
    cachedTokens = serializers.IntegerField(help_text="Of promptTokens.")
    completionTokens = serializers.IntegerField()
    costUsd = serializers.FloatField()
    costUnknownCount = serializers.IntegerField(
        help_text="Requests that cost something nobody knows: their models have no price."
    )


class GroupCostSerializer(CostSerializer):
    group = serializers.CharField(allow_blank=True, help_text="Empty: nobody's, or none.")


class ReportSerializer(serializers.Serializer[Any]):
    """Whole hours: `from` is rounded down, `to` up."""

    to = serializers.DateTimeField()
    groupBy = serializers.ChoiceField(choices=GROUPS)
    moreGroups = serializers.IntegerField(
        help_text="Left out beyond 1,000, the least costly; the total has them."
    )

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python's.
        return {"from": serializers.DateTimeField(), **super().get_fields()}


class CostsSerializer(ReportSerializer):
    total = CostSerializer()
    groups = GroupCostSerializer(many=True)


class ComparedSerializer(serializers.Serializer[Any]):
    """Requests whose cost and whose baseline's are known; negative savings are losses."""

    requestCount = serializers.IntegerField()
    costUsd = serializers.FloatField()
    baselineUsd = serializers.FloatField(help_text="The same tokens at the baseline's prices.")
    savedUsd = serializers.FloatField()
    savedPercent = serializers.FloatField(
        allow_null=True, help_text="Of baselineUsd; null where that is 0."
    )


class SavingSerializer(ComparedSerializer):
    measured = ComparedSerializer(help_text="The upstream counted the tokens.")
    estimated = ComparedSerializer(help_text="The tokens were estimated.")
    notComparedCount = serializers.IntegerField(
        help_text="Used tokens, but one of the two costs is not known."
    )
    simulatedCount = serializers.IntegerField(help_text="Answered by the simulator.")


class GroupSavingSerializer(SavingSerializer):
    group = serializers.CharField(allow_blank=True, help_text="Empty: nobody's, or none.")


class SavingsSerializer(ReportSerializer):
    total = SavingSerializer()
    groups = GroupSavingSerializer(many=True)


class Parameters(PeriodQuery):
    groupBy = serializers.ChoiceField(
        choices=GROUPS, default="model", help_text="What each row of `groups` stands for."
    )
    tenant = serializers.CharField(required=False, help_text="Only this tenant's requests.")
    model = serializers.CharField(required=False, help_text="Only this model's answers.")
    task = serializers.CharField(required=False, help_text="Only this task type.")


class CostsView(APIView):
    """What requests cost in a period."""

    @extend_schema(
        operation_id="costs",
        tags=["analytics"],
        parameters=[Parameters],
        responses={200: CostsSerializer, **NOT_YOURS, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        return _answer(request, _cost)


class SavingsView(APIView):
    """What requests saved in a period, against the baseline that was set when each was made."""

    @extend_schema(
        operation_id="savings",
        tags=["analytics"],
        parameters=[Parameters],
        responses={200: SavingsSerializer, **NOT_YOURS, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        return _answer(request, _saving)


def _answer(request: Request, row: Any) -> Response:
    asked = Parameters.of(request)
    only = {name: asked[name] for name in COLUMN if name in asked}
    if tenant := tenant_for(request, asked.get("tenant")):
        only["tenant"] = tenant
    try:
        found = report(period_of(asked), asked["groupBy"], only)
    except DatabaseError as exc:
        raise DatabaseAway from exc
    return Response(_document(found, asked["groupBy"], row))


def _document(found: Report, group: str, row: Any) -> dict[str, Any]:
    return {
        "from": found.period.start,
        "to": found.period.end,
        "groupBy": group,
        "total": row(found.total),
        "groups": [{"group": name, **row(spent)} for name, spent in found.groups],
        "moreGroups": found.more,
    }


def _cost(spent: Spent) -> dict[str, Any]:
    return {
        "requestCount": spent.requests,
        "successCount": spent.successes,
        "errorCount": spent.requests - spent.successes,
        "fallbackCount": spent.fallbacks,
        "simulatedCount": spent.simulated,
        "promptTokens": spent.prompt_tokens,
        "cachedTokens": spent.cached_tokens,
        "completionTokens": spent.completion_tokens,
        "costUsd": spent.cost_nusd / 1e9,
        "costUnknownCount": spent.cost_unknown,
    }


def _saving(spent: Spent) -> dict[str, Any]:
    return {
        **_compared(spent.compared),
        "measured": _compared(spent.measured),
        "estimated": _compared(spent.estimated),
        "notComparedCount": spent.uncompared,
        "simulatedCount": spent.simulated,
    }


def _compared(compared: Compared) -> dict[str, Any]:
    return {
        "requestCount": compared.count,
        "costUsd": compared.cost_nusd / 1e9,
        "baselineUsd": compared.baseline_nusd / 1e9,
        "savedUsd": compared.saved_nusd / 1e9,
        "savedPercent": compared.saved_percent,
    }

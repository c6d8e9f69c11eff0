"""GET /api/v1/ai/budgets: how much of every budget is spent, held and left."""

import datetime as dt
from typing import Any

from django.db import DatabaseError
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing.engine.catalog import BUDGET_PERIODS, BUDGET_SCOPES, WHEN_EXHAUSTED
from routing.treasury.report import Standing, of_tenant, standings, stray_nusd
from telemetry.api.problem import PROBLEMS, DatabaseAway
from telemetry.api.scope import tenant_for


class BudgetPointSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    spent_usd = serializers.FloatField(help_text="Since the start of the period.")


class BudgetStandingSerializer(serializers.Serializer[Any]):
    """One budget in its present period; amounts are dollars."""

    name = serializers.CharField()
    scope = serializers.ChoiceField(choices=BUDGET_SCOPES)
    subject = serializers.CharField(allow_blank=True)
    period = serializers.ChoiceField(choices=BUDGET_PERIODS)
    time_zone = serializers.CharField()
    hard = serializers.BooleanField()
    when_exhausted = serializers.ChoiceField(choices=WHEN_EXHAUSTED)
    limit_usd = serializers.FloatField()
    spent_usd = serializers.FloatField(help_text="By records that are stored.")
    held_usd = serializers.FloatField(help_text="Leased to workers and not settled yet.")
    remaining_usd = serializers.FloatField(help_text="Limit less spent and held.")
    forecast_usd = serializers.FloatField(
        allow_null=True,
        help_text="Spent by the period's end at the pace since its start; null if none.",
    )
    overrun_usd = serializers.FloatField(
        help_text="What upstreams charged beyond what was asked of them."
    )
    exhausted = serializers.BooleanField()
    window_start = serializers.DateTimeField()
    window_end = serializers.DateTimeField(
        allow_null=True, help_text="When it begins anew; null if it never does."
    )
    series = BudgetPointSerializer(many=True)


class BudgetsSerializer(serializers.Serializer[Any]):
    budgets = BudgetStandingSerializer(many=True)
    total = serializers.IntegerField()
    stray_usd = serializers.FloatField(
        allow_null=True,
        help_text="Charged to leases and periods that were gone, so in no budget; null with a key.",
    )


class BudgetsView(APIView):
    """Every enabled budget by name, with what is spent, held and to be expected.

    With an API key: those of its tenant, of the tenant's keys, and those that count all requests.
    """

    @extend_schema(
        operation_id="budgets", tags=["status"], responses={200: BudgetsSerializer, **PROBLEMS}
    )
    def get(self, request: Request) -> Response:
        tenant = tenant_for(request)
        try:
            budgets = None if tenant is None else of_tenant(tenant)
            rows = [_row(one) for one in standings(dt.datetime.now(dt.UTC), budgets)]
            stray = stray_nusd() / 1e9 if tenant is None else None
        except DatabaseError as exc:
            raise DatabaseAway from exc
        return Response({"budgets": rows, "total": len(rows), "stray_usd": stray})


def _row(one: Standing) -> dict[str, Any]:
    spec = one.budget
    forecast = one.forecast_nusd
    return {
        "name": spec.name,
        "scope": spec.scope,
        "subject": spec.subject,
        "period": spec.period,
        "time_zone": spec.time_zone,
        "hard": spec.hard,
        "when_exhausted": spec.when_exhausted,
        "limit_usd": one.limit_nusd / 1e9,
        "spent_usd": one.spent_nusd / 1e9,
        "held_usd": one.held_nusd / 1e9,
        "remaining_usd": one.remaining_nusd / 1e9,
        "forecast_usd": None if forecast is None else forecast / 1e9,
        "overrun_usd": one.overrun_nusd / 1e9,
        "exhausted": one.exhausted,
        "window_start": one.starts_at,
        "window_end": one.ends_at,
        "series": [{"at": p.at, "spent_usd": p.spent_nusd / 1e9} for p in one.series],
    }

"""GET /api/v1/ai/breakers and POST /api/v1/ai/breakers/reset: circuit breakers of the fleet."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import DatabaseError
from drf_spectacular.utils import extend_schema
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing.engine.callers import ANONYMOUS, Caller
from routing.policy.export import document_from_orm
from routing.policy.offered import known_offerings
from routing.policy.parsing import nearest
from routing.policy.resets import reset_breakers
from telemetry.api.problem import NOT_YOURS, PROBLEMS, DatabaseAway
from telemetry.current_board import current_board
from telemetry.offering_health import BREAKER_ORDER, KnownOffering, NewsBoard


class RedisAway(APIException):
    """Raised when workers can neither be heard nor told."""

    status_code = 503
    default_detail = "Redis does not answer, so the workers' breakers are out of reach; try again."
    default_code = problem_code = "redis_unavailable"


class BreakerSerializer(serializers.Serializer[Any]):
    """The breaker of a model at an endpoint, as the fleet has it."""

    model = serializers.CharField()
    endpoint = serializers.CharField()
    state = serializers.ChoiceField(choices=BREAKER_ORDER)
    open_until = serializers.DateTimeField(
        allow_null=True, help_text="When one request is let through; null unless it is open."
    )
    openings = serializers.IntegerField(help_text="In a row, without a success in between.")
    reason = serializers.CharField(
        allow_blank=True, help_text="The error that opened it last; empty once it is closed."
    )
    since = serializers.DateTimeField(
        allow_null=True, help_text="Its last change; null where there was none."
    )


class BreakersSerializer(serializers.Serializer[Any]):
    breakers = BreakerSerializer(many=True)
    total = serializers.IntegerField()
    open = serializers.IntegerField(help_text="How many let nobody through now.")


class BreakersView(APIView):
    """The circuit breaker of every model at every endpoint, by name."""

    @extend_schema(
        operation_id="breakers", tags=["status"], responses={200: BreakersSerializer, **PROBLEMS}
    )
    def get(self, request: Request) -> Response:
        board = current_board()
        if board is None:
            raise RedisAway
        rows = [_row(offering, board) for offering in _offerings()]
        is_open = sum(row["state"] == "open" for row in rows)
        return Response({"breakers": rows, "total": len(rows), "open": is_open})


class BreakerResetSerializer(serializers.Serializer[Any]):
    """Whose breakers to close: a model's, an endpoint's, one at the other, or all."""

    model = serializers.CharField(required=False)
    endpoint = serializers.CharField(required=False)
    all = serializers.BooleanField(required=False, help_text="Every one; given on its own.")

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {name: f"Unknown field{nearest(name, self.fields)}" for name in unknown}
                )
        told: dict[str, Any] = super().to_internal_value(data)
        return told

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        named = "model" in attrs or "endpoint" in attrs
        if named and attrs.get("all"):
            raise serializers.ValidationError({"all": "Give it on its own, or leave it out."})
        if not named and not attrs.get("all"):
            detail = 'Say whose breakers: give model, endpoint, or both; or {"all": true}.'
            raise serializers.ValidationError(detail)
        return attrs


class BreakersResetSerializer(serializers.Serializer[Any]):
    reset = serializers.ListField(
        child=serializers.CharField(), help_text="`model@endpoint` of each one closed."
    )


class BreakersResetView(APIView):
    """Close circuit breakers in every worker; it takes effect within a second."""

    @extend_schema(
        operation_id="reset_breakers",
        tags=["status"],
        request=BreakerResetSerializer,
        responses={200: BreakersResetSerializer, **NOT_YOURS, **PROBLEMS},
    )
    def post(self, request: Request) -> Response:
        asked = BreakerResetSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        offerings = _chosen(_offerings(), asked.validated_data)
        try:
            closed = reset_breakers(offerings, _who(request))
        except RedisError as exc:
            raise RedisAway from exc
        return Response({"reset": closed})


def _offerings() -> list[KnownOffering]:
    try:
        known = known_offerings(document_from_orm())
    except DatabaseError as exc:
        raise DatabaseAway from exc
    return sorted(known, key=lambda o: (o.model, o.endpoint))


def _row(offering: KnownOffering, board: NewsBoard) -> dict[str, Any]:
    health = board.health(offering)
    news = board.breakers.get(f"{offering.model}@{offering.endpoint}")
    return {
        "model": offering.model,
        "endpoint": offering.endpoint,
        "state": health.breaker,
        "open_until": _time(health.open_until),
        "openings": news.openings if news else 0,
        "reason": news.reason if news else "",
        "since": _time(news.at if news else 0.0),
    }


def _time(epoch_s: float) -> datetime | None:
    return datetime.fromtimestamp(epoch_s, UTC) if epoch_s > 0 else None


def _chosen(known: list[KnownOffering], asked: Mapping[str, Any]) -> Iterable[str]:
    model, endpoint = asked.get("model"), asked.get("endpoint")
    problems = {
        **_unknown("model", model, {o.model for o in known}),
        **_unknown("endpoint", endpoint, {o.endpoint for o in known}),
    }
    if problems:
        raise serializers.ValidationError(problems)
    chosen = [o for o in known if model in (None, o.model) and endpoint in (None, o.endpoint)]
    if not chosen and not asked.get("all"):
        where = ", ".join(o.endpoint for o in known if o.model == model)
        detail = f"Model {model} is not offered at {endpoint}, but at {where}."
        raise serializers.ValidationError({"endpoint": detail})
    return [f"{o.model}@{o.endpoint}" for o in chosen]


def _unknown(field: str, name: str | None, known: set[str]) -> dict[str, str]:
    if name is None or name in known:
        return {}
    return {field: f"No enabled {field} is called {name}{nearest(name, sorted(known))}"}


def _who(request: Request) -> str:
    if request.user.is_authenticated:
        return f"user '{request.user.get_username()}'"
    caller: Caller = getattr(request, "caller", ANONYMOUS)
    if caller.key:
        return f"key '{caller.key}' of tenant '{caller.tenant}'"
    return f"a caller at {request.META.get('REMOTE_ADDR') or 'an unknown address'}"

"""GET /api/v1/health: does it work, and if not, which part does not?

Every part is asked afresh and within a time limit, so a part that hangs is an error after
`FIRST_LIMIT_S`, and the whole answer is there within two seconds.
"""

import asyncio
import json
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
import psycopg
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from routing.engine.catalog import EndpointSpec, PolicyDocument
from routing.policy import metadata, news, snapshot
from routing.policy.database import in_thread
from routing.policy.export import document_from_orm
from routing.policy.offered import known_offerings
from telemetry import redis_names
from telemetry.api.problem import PROBLEMS
from telemetry.api.query import Query
from telemetry.database import connect
from telemetry.hosts import LOCAL, is_known
from telemetry.live import STALE_S
from telemetry.offering_health import NewsBoard, read_board
from telemetry.redis_client import open_redis
from telemetry.sampler import sample
from telemetry.spool.layout import spool_use
from telemetry.verdict import PART_STATES, VERDICTS, part_state, service_verdict

FIRST_LIMIT_S = 1.0  # database and Redis, side by side
SECOND_LIMIT_S = 0.7  # endpoints that nobody has news of
MOST_PROBES = 16

T = TypeVar("T")


class ServicesSerializer(serializers.Serializer[Any]):
    database = serializers.ChoiceField(choices=PART_STATES)
    redis = serializers.ChoiceField(choices=PART_STATES)
    ollama = serializers.ChoiceField(
        choices=PART_STATES, help_text="ok: at least one enabled endpoint answers."
    )


class SystemSerializer(serializers.Serializer[Any]):
    memory_pressure = serializers.FloatField(help_text="0 to 1.")
    available_models = serializers.IntegerField(
        help_text="Models that some endpoint can answer for."
    )
    memory_available_gb = serializers.FloatField()
    cpu_usage_percent = serializers.FloatField()


class SpoolSerializer(serializers.Serializer[Any]):
    backlog_bytes = serializers.IntegerField(help_text="Records not yet in the database.")
    corrupt = serializers.IntegerField(help_text="Damaged pieces that were set aside.")


class EndpointHealthSerializer(serializers.Serializer[Any]):
    up = serializers.BooleanField()
    version = serializers.CharField(allow_blank=True)
    simulated = serializers.BooleanField()
    error = serializers.CharField(allow_blank=True)


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=VERDICTS)
    timestamp = serializers.DateTimeField()
    services = ServicesSerializer()
    system = SystemSerializer()
    version = serializers.CharField()
    simulated = serializers.BooleanField(help_text="Some endpoint's answers are not a model's.")
    conductor = serializers.ChoiceField(choices=PART_STATES)
    spool = SpoolSerializer()
    endpoints = serializers.DictField(child=EndpointHealthSerializer())


class HealthView(APIView):
    """Comprehensive health check: 200 for healthy and degraded, 503 for unhealthy."""

    class Parameters(Query):
        """Takes none."""

    @extend_schema(
        operation_id="health",
        tags=["health"],
        responses={
            (200, "application/json"): HealthSerializer,
            (503, "application/json"): HealthSerializer,
            **{key: kind for key, kind in PROBLEMS.items() if key[0] in (400, 401)},
        },
    )
    def get(self, request: Request) -> Response:
        self.Parameters.of(request)
        report = async_to_sync(check)()
        return Response(
            report,
            status=503 if report["status"] == "unhealthy" else 200,
            headers={"Cache-Control": "no-store"},
        )


@dataclass(slots=True)
class RedisView:
    """What Redis had to say."""

    board: NewsBoard = field(default_factory=NewsBoard)
    document: PolicyDocument | None = None
    conductor: bool = False  # one has told the dashboards something within the last seconds


async def check() -> dict[str, Any]:
    """Look at every part and return the report."""
    database, seen = await asyncio.gather(
        _bounded(_database(), FIRST_LIMIT_S), _bounded(_redis(), FIRST_LIMIT_S)
    )
    redis = seen or RedisView()
    document = redis.document
    if document is None and database:
        document = await _bounded(in_thread(document_from_orm), SECOND_LIMIT_S)
    document = document or PolicyDocument()
    endpoints = [endpoint for endpoint in document.endpoints if endpoint.enabled]
    await _look_at_unknown(endpoints, redis.board)
    return _report(document, endpoints, redis, database=bool(database), redis_ok=seen is not None)


async def _bounded(part: Awaitable[T], limit_s: float) -> T | None:
    try:
        async with asyncio.timeout(limit_s):
            return await part
    except (psycopg.Error, DatabaseError, RedisError, OSError, TimeoutError):
        return None


async def _database() -> bool:
    connection = await connect("health")
    try:
        await connection.execute("SELECT 1 FROM telemetry_modelmetric LIMIT 1")
    finally:
        await connection.close()
    return True


async def _redis() -> RedisView:
    async with open_redis(FIRST_LIMIT_S) as redis:
        board = await read_board(redis)
        policy = await redis.get(redis_names.POLICY_SNAPSHOT)
        live = await redis.get(redis_names.LIVE_LAST)
    return RedisView(board, _decoded(policy), _is_fresh(live))


def _decoded(policy: Any) -> PolicyDocument | None:
    try:
        return snapshot.decode(policy) if policy else None
    except msgspec.DecodeError:
        return None


def _is_fresh(live: Any) -> bool:
    at_ms = json.loads(live)["at_ms"] if live else 0
    return bool(timezone.now().timestamp() - at_ms / 1000 < STALE_S)


async def _look_at_unknown(endpoints: list[EndpointSpec], board: NewsBoard) -> None:
    """Ask endpoints that nobody has fresh news of; what they say goes on the board."""
    unknown = [e for e in endpoints if not board.has_news_of(e.name)][:MOST_PROBES]
    if not unknown:
        return
    async with metadata.client() as http:

        async def look(endpoint: EndpointSpec) -> None:
            try:
                async with asyncio.timeout(SECOND_LIMIT_S):
                    board.add(news.seen(endpoint, await metadata.look(http, endpoint)))
            except (metadata.ProbeError, TimeoutError) as exc:
                board.add(news.unseen(endpoint, str(exc) or "It did not answer in time."))

        await asyncio.gather(*map(look, unknown))


def _report(
    document: PolicyDocument,
    endpoints: list[EndpointSpec],
    redis: RedisView,
    *,
    database: bool,
    redis_ok: bool,
) -> dict[str, Any]:
    host, use = sample(), spool_use(settings.SPOOL_DIR)
    board = redis.board
    seen = {e.name: board.endpoints[e.name] for e in endpoints if e.name in board.endpoints}
    up = [told.up for told in seen.values()]
    available = _available_models(document, board)
    return {
        "status": service_verdict(
            essential=[database, available > 0],
            desirable=[redis_ok, redis.conductor, *up, *_hosts_known(endpoints, board)],
        ),
        "timestamp": timezone.now(),
        "services": {
            "database": part_state(database),
            "redis": part_state(redis_ok),
            "ollama": "ok" if any(up) else "error",
        },
        "system": {
            "memory_pressure": host.pressure,
            "available_models": available,
            "memory_available_gb": host.available_gb,
            "cpu_usage_percent": host.cpu_percent,
        },
        "version": settings.SPECTACULAR_SETTINGS["VERSION"],
        "simulated": any(told.simulated for told in seen.values()),
        "conductor": part_state(redis.conductor),
        "spool": {"backlog_bytes": use.backlog_bytes, "corrupt": use.corrupt},
        "endpoints": {
            name: {
                "up": told.up,
                "version": told.version,
                "simulated": told.simulated,
                "error": told.error,
            }
            for name, told in seen.items()
        },
    }


def _hosts_known(endpoints: list[EndpointSpec], board: NewsBoard) -> list[bool]:
    """Return for each host that endpoints are on, and that ever reported, whether it still does."""
    named = {endpoint.host for endpoint in endpoints} & board.hosts.keys() - {LOCAL}
    return [is_known(board.hosts[name], time.time()) for name in named]


def _available_models(document: PolicyDocument, board: NewsBoard) -> int:
    return len({o.model for o in known_offerings(document) if board.health(o).healthy})

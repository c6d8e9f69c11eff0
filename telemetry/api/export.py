"""GET /api/v1/ai/analytics/requests: the records themselves, as a file."""

from collections.abc import AsyncIterator
from typing import Any

from django.db import DatabaseError, connection
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView

from telemetry.api.period import PeriodQuery
from telemetry.api.problem import NOT_YOURS, PROBLEMS, DatabaseAway
from telemetry.api.scope import tenant_for
from telemetry.export import exported

MEDIA_TYPES = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
# Of one worker at once: each takes some megabytes and a connection to PostgreSQL.
MOST_AT_ONCE = 4


class Busy(APIException):
    """Raised when the worker has enough exports under way."""

    status_code = 503
    default_detail = f"{MOST_AT_ONCE} exports are under way in this worker; try again in a while."
    default_code = problem_code = "exports_busy"


class AnyFormat(BaseContentNegotiation):
    """`format` says what the file is to be; it does not choose one of DRF's renderers."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return next(iter(parsers), None)

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


class RequestsExportView(APIView):
    """Every record of a period, oldest first, as CSV or Parquet; never a prompt or an answer.

    Streamed: a year takes as little memory as an hour.
    """

    content_negotiation_class = AnyFormat
    under_way = 0

    class Parameters(PeriodQuery):
        format = serializers.ChoiceField(
            choices=sorted(MEDIA_TYPES), default="csv", help_text="What kind of file."
        )

    @extend_schema(
        operation_id="export_requests",
        tags=["analytics"],
        parameters=[Parameters],
        responses={
            (200, MEDIA_TYPES["csv"]): OpenApiTypes.STR,
            (200, MEDIA_TYPES["parquet"]): OpenApiTypes.BINARY,
            **NOT_YOURS,
            **PROBLEMS,
        },
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        asked = self.Parameters.of(request)
        try:
            connection.ensure_connection()
        except DatabaseError as exc:
            raise DatabaseAway from exc
        if RequestsExportView.under_way >= MOST_AT_ONCE:
            raise Busy
        wanted, start, end = asked["format"], asked["from"], asked["to"]
        name = f"requests-{start:%Y%m%dT%H%M}-{end:%Y%m%dT%H%M}.{wanted}"
        return StreamingHttpResponse(
            _counted(exported(wanted, start, end, tenant_for(request))),
            content_type=MEDIA_TYPES[wanted],
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


async def _counted(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    RequestsExportView.under_way += 1
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        RequestsExportView.under_way -= 1
        await chunks.aclose()  # type: ignore[attr-defined]  # a generator, told as an iterator

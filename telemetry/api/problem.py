"""How the schema describes problem documents, and the one that several views answer with."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import APIException

PROBLEM_TYPE = "application/problem+json"


class ControlProblemFieldSerializer(serializers.Serializer[Any]):
    """One parameter or field at fault."""

    pointer = serializers.CharField(allow_blank=True, help_text="JSON pointer, or the parameter.")
    detail = serializers.CharField()
    remedy = serializers.CharField(required=False)


class ControlProblemSerializer(serializers.Serializer[Any]):
    """RFC 9457 problem details; `code` is stable, `detail` is for people."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    errors = ControlProblemFieldSerializer(many=True, required=False)  # type: ignore[assignment]


NOT_YOURS = {(403, PROBLEM_TYPE): ControlProblemSerializer}
PROBLEMS = {
    (400, PROBLEM_TYPE): ControlProblemSerializer,
    (401, PROBLEM_TYPE): ControlProblemSerializer,
    (503, PROBLEM_TYPE): ControlProblemSerializer,
}


class DatabaseAway(APIException):
    """Raised when PostgreSQL does not answer."""

    status_code = 503
    default_detail = "The database does not answer; see /api/v1/health."
    default_code = "database_unavailable"

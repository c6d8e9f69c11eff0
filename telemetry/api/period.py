"""The `from` and `to` that reports and exports are asked with."""

import datetime as dt
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from telemetry.analytics import Period
from telemetry.api.query import Query

DEFAULT_DAYS = 30
MOST_DAYS = 400
# Whatever lies outside is a mistake, and far outside cannot be reckoned with.
EARLIEST, LATEST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def _moment(help_text: str) -> serializers.DateTimeField:
    return serializers.DateTimeField(required=False, default_timezone=dt.UTC, help_text=help_text)


class PeriodQuery(Query):
    """A period: `from` (inclusive) and `to` (exclusive), dates or times; without a zone in UTC."""

    def get_fields(self) -> dict[str, Any]:
        # `from` is a word of Python's, so no attribute can be called that.
        return {
            "from": _moment("Beginning; a date or a time. Default: 30 days before `to`."),
            "to": _moment("End, not included; a date or a time. Default: now."),
            **super().get_fields(),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        problems: dict[str, Any] = {
            name: f"Give a time from {EARLIEST:%Y} to {LATEST:%Y}."
            for name in ("from", "to")
            if name in attrs and not EARLIEST <= attrs[name] <= LATEST
        }
        if problems:
            raise serializers.ValidationError(problems)
        end = attrs.get("to") or timezone.now()
        start = attrs.get("from") or end - dt.timedelta(days=DEFAULT_DAYS)
        if start >= end:
            raise serializers.ValidationError({"from": f"It must lie before `to`, {end:%FT%TZ}."})
        if end - start > dt.timedelta(days=MOST_DAYS):
            raise serializers.ValidationError({"from": f"Ask for {MOST_DAYS} days at most."})
        return {**attrs, "from": start, "to": end}


def period_of(asked: dict[str, Any]) -> Period:
    """Return the whole hours asked for."""
    return Period.of(asked["from"], asked["to"])

"""Query strings, as strict as bodies are."""

import difflib
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

# DRF's own: how the answer is to be rendered.
RENDERING = "format"


class Query(serializers.Serializer[Any]):
    """Base of a view's query parameters: an unknown or repeated one is refused by name."""

    @classmethod
    def of(cls, request: Request) -> dict[str, Any]:
        """Return the checked parameters; raises DRF's ValidationError, which is answered 400."""
        # A plain dict: with a QueryDict DRF takes an absent boolean for False, as forms send it.
        lists = request.query_params.lists()
        given = {n: v for n, v in lists if n != RENDERING or RENDERING in cls._declared_fields}
        query = cls(data={name: values[-1] for name, values in given.items()})
        for field in query.fields.values():
            _say_what_fits(field)
        problems = {
            **{name: ["Give it once."] for name, values in given.items() if len(values) > 1},
            **{name: [query.unknown(name)] for name in given if name not in query.fields},
        }
        query.is_valid()
        problems |= query.errors
        if problems:
            raise serializers.ValidationError(problems)
        return dict(query.validated_data)

    def unknown(self, name: str) -> str:
        """Return what to tell somebody who gave a parameter that does not exist."""
        by_lower = {known.lower(): known for known in map(str, self.fields)}
        near = difflib.get_close_matches(name.lower(), by_lower, n=1)
        if near:
            return f"There is no such parameter; did you mean {by_lower[near[0]]}?"
        return f"There is no such parameter; known are {', '.join(by_lower.values())}."


def _say_what_fits(field: serializers.Field[Any, Any, Any, Any]) -> None:
    """Let the field's errors name the remedy: DRF's own only say that a value is wrong."""
    if isinstance(field, serializers.ChoiceField):
        choices = ", ".join(map(str, field.choices))
        field.error_messages["invalid_choice"] = f"There is no '{{input}}'; use one of {choices}."
    elif isinstance(field, serializers.DateTimeField):
        field.error_messages["invalid"] = (
            "Give a date or a time, such as 2026-11-23 or 2026-11-23T08:00:00Z."
        )

"""The events: what a record has to tell, and that the documentation says what the code does."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from telemetry.events import (
    CONSUMED,
    PUBLISHED,
    CostThresholdExceeded,
    ModelFailed,
    ModelSelected,
    of_record,
    schema,
)
from telemetry.record import Attempt
from tests.telemetry.records import a_record

ALL = PUBLISHED | CONSUMED
PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def documented() -> dict[str, list[Any]]:
    """Return the JSON blocks of each event's section: an example and a schema."""
    sections = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    return {
        section.split("\n")[0]: [
            json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)
        ]
        for section in sections
    }


def test_every_event_is_documented_and_no_other() -> None:
    assert list(documented()) == list(ALL)


@pytest.mark.parametrize("name", ALL)
def test_the_documented_schema_is_the_codes(name: str) -> None:
    example, shown = documented()[name]
    assert shown == schema(name)
    jsonschema.Draft202012Validator.check_schema(shown)
    jsonschema.validate(example, shown, format_checker=jsonschema.FormatChecker())
    decoded = msgspec.json.decode(json.dumps(example), type=ALL[name])
    assert isinstance(decoded, ALL[name])


def test_the_payloads_have_the_fields_that_were_asked_for() -> None:
    assert {name: list(kind.__struct_fields__) for name, kind in PUBLISHED.items()} == {
        "model.selected": ["request_id", "model_name", "task_type", "selection_time_ms"],
        "model.failed": ["request_id", "model_name", "error_type", "fallback_used"],
        "resource.pressure_high": ["memory_pressure", "available_memory_gb", "timestamp", "host"],
        "cost.threshold_exceeded": [
            "request_id",
            "estimated_cost",
            "threshold",
            "budget",
            "percent",
            "limit",
            "window_start",
            "window_end",
        ],
    }


def test_a_request_that_worked_tells_its_selection() -> None:
    record = a_record(1, selection_time_us=1600)
    assert list(of_record(record)) == [ModelSelected("req-00000001", "model-1", "code", 2)]


def test_each_failed_attempt_is_told() -> None:
    record = a_record(
        1,
        attempts=(Attempt("a", "e", 5, "upstream_timeout"), Attempt("model-1", "e", 6)),
        fallback_used=True,
    )
    assert list(of_record(record))[1:] == [
        ModelFailed("req-00000001", "a", "upstream_timeout", True)
    ]


def test_a_failed_request_tells_of_its_model_once() -> None:
    failed = {"success": False, "error_type": "all_attempts_failed", "selected_model": ""}
    record = a_record(1, attempts=(Attempt("a", "e", 5, "connect_failed"),), **failed)
    assert list(of_record(record)) == [
        ModelSelected("req-00000001", "a", "code", 0),
        ModelFailed("req-00000001", "a", "connect_failed", False),
    ]


@pytest.mark.parametrize("left", [{}, {"success": False, "error_type": "caller_left"}])
def test_an_attempt_that_lost_a_race_failed_nothing(left: dict[str, Any]) -> None:
    lost = Attempt("a", "e", 5, "hedge_lost")
    answered = () if left else (Attempt("model-1", "f", 6),)
    record = a_record(1, attempts=(lost, *answered), **left)
    assert [type(event) for event in of_record(record)] == [ModelSelected]


def test_a_refused_request_failed_no_model() -> None:
    record = a_record(
        1, success=False, error_type="no_model_available", selected_model="", chosen_model="",
        attempts=(),
    )  # fmt: skip
    assert list(of_record(record)) == []


@pytest.mark.parametrize("error_type", ["cost_limit", "cost_limit_exceeded"])
def test_a_request_stopped_by_its_own_limit_tells_both_figures(error_type: str) -> None:
    record = a_record(
        1, success=False, error_type=error_type, selected_model="", chosen_model="", attempts=(),
        cost_limit_nusd=10_000_000, estimated_cost_nusd=12_500_000,
    )  # fmt: skip
    assert list(of_record(record)) == [CostThresholdExceeded("req-00000001", 0.0125, 0.01)]

"""The events this project publishes and consumes, with a JSON Schema for each.

`docs/events.md` shows the schemas with an example each; a test keeps the two the same.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from telemetry.record import RequestRecord, credited_model

Text = Annotated[str, msgspec.Meta(max_length=500)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Gb = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
Megabytes = Annotated[float, msgspec.Meta(ge=0)]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
Aware = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Base of the payloads."""


class ModelSelected(Event, frozen=True):
    """A model was selected for a request."""

    request_id: str
    model_name: str
    task_type: str
    selection_time_ms: int


class ModelFailed(Event, frozen=True):
    """A model did not answer: one event for each failed attempt."""

    request_id: str
    model_name: str
    error_type: str
    fallback_used: bool


class ResourcePressureHigh(Event, frozen=True):
    """Memory pressure of a host rose above 0.80; told once until it was below 0.75 again."""

    memory_pressure: float
    available_memory_gb: float
    timestamp: Aware
    host: str = "local"  # or the name under which another machine reports


class CostThresholdExceeded(Event, frozen=True):
    """A request was refused because of its `costLimit`, or a budget passed a threshold.

    Amounts are dollars. For a budget, `request_id` is empty, `estimated_cost` is what is spent,
    `threshold` the part of the limit that was passed, and the other fields say of what.
    """

    request_id: str
    estimated_cost: float
    threshold: float
    budget: str = ""
    percent: int = 0  # of the limit
    limit: float = 0.0
    window_start: Aware | None = None
    window_end: Aware | None = None  # null: the budget never begins anew


class GpuMemory(Event, frozen=True):
    """Memory of one GPU."""

    name: Text
    total_gb: Gb
    free_gb: Gb


class HeldModel(Event, frozen=True):
    """A model in the memory of the host's Ollama."""

    name: Name
    size_mb: Megabytes = 0.0
    vram_mb: Megabytes = 0.0
    expires_at: Aware | None = None


class SystemResourceUpdated(Event, frozen=True):
    """Memory of a host, measured by somebody else; counts in routing decisions from then on."""

    memory_available_gb: Gb
    memory_total_gb: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
    host: Name = "local"
    cpu_usage_percent: Percent = 0.0
    swap_used_percent: Percent = 0.0
    timestamp: Aware | None = None
    pressure: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    psi_some_percent: Percent = 0.0
    psi_full_percent: Percent = 0.0
    gpus: tuple[GpuMemory, ...] = ()
    interval_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None
    ollama_port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    loaded: tuple[HeldModel, ...] | None = None

    def __post_init__(self) -> None:
        if self.memory_available_gb > self.memory_total_gb:
            raise ValueError("memory_available_gb is more than memory_total_gb")


class ModelHealthChanged(Event, frozen=True):
    """Somebody outside found a model fit or unfit for use; an empty endpoint means everywhere."""

    model_name: Name
    healthy: bool
    endpoint: Annotated[str, msgspec.Meta(max_length=200)] = ""
    reason: Text = ""
    timestamp: Aware | None = None


PUBLISHED: dict[str, type[Event]] = {
    "model.selected": ModelSelected,
    "model.failed": ModelFailed,
    "resource.pressure_high": ResourcePressureHigh,
    "cost.threshold_exceeded": CostThresholdExceeded,
}
CONSUMED: dict[str, type[Event]] = {
    "system.resource_updated": SystemResourceUpdated,
    "model.health_changed": ModelHealthChanged,
}
NAMES = {kind: name for name, kind in (PUBLISHED | CONSUMED).items()}
# The error types of a request that its own limit refused, or ended.
COST_LIMITS = frozenset(("cost_limit", "cost_limit_exceeded"))


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an event's payload."""
    kind = (PUBLISHED | CONSUMED)[name]
    (_,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    own = components.pop(kind.__name__)
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        **{key: value for key, value in own.items() if key != "title"},
        **({"$defs": components} if components else {}),
    }
    # Defaults that are tuples become the arrays that JSON has.
    return msgspec.json.decode(msgspec.json.encode(whole), type=dict[str, Any])


def of_record(record: RequestRecord) -> Iterator[Event]:
    """Yield what one finished request has to tell."""
    model = credited_model(record)
    if model:
        yield ModelSelected(
            record.request_id,
            model,
            record.task_type,
            round(record.selection_time_us / 1000),
        )
    # The common case first: nothing failed.
    if record.success and len(record.attempts) < 2:
        return
    yield from _failures(record)
    if record.error_type in COST_LIMITS:
        yield CostThresholdExceeded(
            record.request_id, record.estimated_cost_nusd / 1e9, record.cost_limit_nusd / 1e9
        )


def _failures(record: RequestRecord) -> Iterator[ModelFailed]:
    failed = [a for a in record.attempts if a.failed]
    for attempt in failed:
        yield ModelFailed(
            record.request_id, attempt.model, attempt.error_type, record.fallback_used
        )
    answered = any(not a.error_type for a in record.attempts)
    if not failed and not record.success and answered:
        yield ModelFailed(
            record.request_id, credited_model(record), record.error_type, record.fallback_used
        )

"""What a batch adds to the counters of each model, and to the sums of each minute."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from telemetry.record import RequestRecord, credited_model
from telemetry.sums import GroupKey, Sums, storable

MINUTE_US = 60_000_000


def called_a_model(record: RequestRecord) -> bool:
    """Return whether the request counts for its model: a choice alone, or a refusal, does not."""
    return record.kind != "select" and bool(record.success or record.attempts)


@dataclass(slots=True)
class ModelTotal:
    """Added to one row of ModelMetric."""

    requests: int = 0
    successes: int = 0
    response_ms: int = 0
    failed_attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nusd: int = 0
    last_used_us: int | None = None


@dataclass(slots=True)
class Totals:
    """By model's name, and by minute and group."""

    models: dict[str, ModelTotal] = field(default_factory=dict)
    minutes: dict[GroupKey, Sums] = field(default_factory=dict)


def total(records: Iterable[RequestRecord]) -> Totals:
    """Sum up what `records` add; every credited model gets an entry, if only of zeros."""
    totals = Totals()
    models, minutes = totals.models, totals.minutes
    for record in records:
        name = credited_model(record)
        start = record.created_at_us // MINUTE_US * 60
        key = (start, record.tenant, name, record.task_type, record.kind)
        sums = minutes.get(key)
        if sums is None:
            sums = minutes.setdefault(storable(key), Sums())
        sums.add(record)
        if name:
            model = models.get(name)
            if model is None:
                model = models[name] = ModelTotal()
            if called_a_model(record):
                _add_to_model(model, record)
        # The last attempt is the request's own outcome, counted above.
        for attempt in record.attempts if len(record.attempts) > 1 else ():
            if attempt.failed and attempt.model:
                models.setdefault(attempt.model, ModelTotal()).failed_attempts += 1
    return totals


def _add_to_model(model: ModelTotal, record: RequestRecord) -> None:
    model.requests += 1
    model.successes += record.success
    model.response_ms += record.response_time_ms
    model.prompt_tokens += record.prompt_tokens
    model.completion_tokens += record.completion_tokens
    model.cost_nusd += record.cost_nusd
    ended_us = record.created_at_us + record.response_time_ms * 1000
    if model.last_used_us is None or ended_us > model.last_used_us:
        model.last_used_us = ended_us

"""What a batch adds to the counters of each model, and to the sums of each span of time."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from telemetry.histogram import bucket
from telemetry.record import RequestRecord, credited_model

MINUTE_US = 60_000_000

# (start, tenant, model, task type, kind); the start in seconds since the epoch.
GroupKey = tuple[int, str, str, str, str]
# (length in seconds, start, kind)
SpanKey = tuple[int, int, str]


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
class Sums:
    """Added to one row of a table of sums; see `telemetry.models.RequestSums`."""

    requests: int = 0
    successes: int = 0
    fallbacks: int = 0
    simulated: int = 0
    response_ms: int = 0
    response_max_ms: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nusd: int = 0
    cost_unknown: int = 0
    measured: int = 0
    measured_cost_nusd: int = 0
    measured_baseline_nusd: int = 0
    estimated: int = 0
    estimated_cost_nusd: int = 0
    estimated_baseline_nusd: int = 0
    uncompared: int = 0
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, record: RequestRecord) -> None:
        """Count one request."""
        took_ms = record.response_time_ms
        self.requests += 1
        self.successes += record.success
        self.fallbacks += record.fallback_used
        self.simulated += record.simulated
        self.response_ms += took_ms
        if took_ms > self.response_max_ms:
            self.response_max_ms = took_ms
        index = bucket(took_ms)
        self.buckets[index] = self.buckets.get(index, 0) + 1
        if record.prompt_tokens or record.completion_tokens or record.cost_nusd:
            self._add_money(record)

    def _add_money(self, record: RequestRecord) -> None:
        cost_nusd, baseline_nusd = record.cost_nusd, record.baseline_nusd
        self.prompt_tokens += record.prompt_tokens
        self.cached_tokens += record.cached_tokens
        self.completion_tokens += record.completion_tokens
        self.cost_nusd += cost_nusd
        self.cost_unknown += not record.cost_known
        if not (record.cost_known and record.baseline_known):
            self.uncompared += 1
        elif record.usage_estimated:
            self.estimated += 1
            self.estimated_cost_nusd += cost_nusd
            self.estimated_baseline_nusd += baseline_nusd
        else:
            self.measured += 1
            self.measured_cost_nusd += cost_nusd
            self.measured_baseline_nusd += baseline_nusd

    def merge(self, other: "Sums") -> None:
        """Add what another one counted."""
        most_ms = max(self.response_max_ms, other.response_max_ms)
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.response_max_ms = most_ms
        mine = self.buckets
        for index, count in other.buckets.items():
            mine[index] = mine.get(index, 0) + count


NUMBERS = tuple(name for name in Sums.__slots__ if name != "buckets")


@dataclass(slots=True)
class Totals:
    """By model's name; by group, for minutes, hours and days; and by span."""

    models: dict[str, ModelTotal] = field(default_factory=dict)
    minutes: dict[GroupKey, Sums] = field(default_factory=dict)
    hours: dict[GroupKey, Sums] = field(default_factory=dict)
    days: dict[GroupKey, Sums] = field(default_factory=dict)
    spans: dict[SpanKey, Sums] = field(default_factory=dict)


def total(records: Iterable[RequestRecord]) -> Totals:
    """Sum up what `records` add; every credited model gets an entry, if only of zeros."""
    totals = Totals()
    models, minutes = totals.models, totals.minutes
    for record in records:
        name = credited_model(record)
        minute = record.created_at_us // MINUTE_US * 60
        key = (minute, record.tenant, name, record.task_type, record.kind)
        sums = minutes.get(key)
        if sums is None:
            sums = minutes[key] = Sums()
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
    _sum_up(totals)
    return totals


def _sum_up(totals: Totals) -> None:
    """Make the longer spans out of the minutes: a few of them, however many records there were."""
    for (minute, tenant, model, task, kind), sums in totals.minutes.items():
        hour, day = minute - minute % 3600, minute - minute % 86_400
        totals.hours.setdefault((hour, tenant, model, task, kind), Sums()).merge(sums)
        totals.days.setdefault((day, tenant, model, task, kind), Sums()).merge(sums)
        totals.spans.setdefault((60, minute, kind), Sums()).merge(sums)
    for (_, minute, kind), sums in list(totals.spans.items()):
        totals.spans.setdefault((3600, minute - minute % 3600, kind), Sums()).merge(sums)


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

"""The last minute of requests, second by second, in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from telemetry.histogram import Histogram
from telemetry.record import RequestRecord, credited_model

KEEP_S = 60


@dataclass(slots=True)
class Counts:
    """Requests that ended in one span of time."""

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    simulated: int = 0
    busy_ms: int = 0  # response times in sum, of requests that called a model
    response_ms: Histogram = field(default_factory=Histogram)
    selection_us: Histogram = field(default_factory=Histogram)

    def add(self, record: RequestRecord) -> None:
        """Count one request."""
        self.requests += 1
        self.errors += not record.success
        self.fallbacks += record.fallback_used
        self.simulated += record.simulated
        if record.kind != "select":
            self.busy_ms += record.response_time_ms
        self.response_ms.add(record.response_time_ms)
        self.selection_us.add(record.selection_time_us)

    def merge(self, other: "Counts") -> None:
        """Add what another span counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.fallbacks += other.fallbacks
        self.simulated += other.simulated
        self.busy_ms += other.busy_ms
        self.response_ms.merge(other.response_ms)
        self.selection_us.merge(other.selection_us)

    @property
    def error_rate(self) -> float | None:
        """Return the share of failed requests, 0..1; None without any request."""
        return round(self.errors / self.requests, 4) if self.requests else None

    @property
    def fallback_rate(self) -> float | None:
        """Return the share of requests that failed over, 0..1; None without any request."""
        return round(self.fallbacks / self.requests, 4) if self.requests else None


def ended_us(record: RequestRecord) -> int:
    """Return when a request ended, in microseconds since the epoch."""
    return record.created_at_us + record.response_time_ms * 1000


class LiveWindow:
    """Counts requests by the second in which they ended, for each model; forgets after a minute."""

    def __init__(self, recent: int) -> None:
        self.recent: list[RequestRecord] = []  # newest first
        self._keep_recent = recent
        self._seconds: dict[int, dict[str, Counts]] = {}

    def add(self, records: Sequence[RequestRecord], now: float) -> None:
        """Count requests; what ended before the window does not count any more."""
        newest = int(now)
        for record in records:
            # A worker's clock is this host's own; only rounding can be ahead.
            second = min(ended_us(record) // 1_000_000, newest)
            if second <= newest - KEEP_S:
                continue
            models = self._seconds.setdefault(second, {})
            name = credited_model(record)
            counts = models.get(name)
            if counts is None:
                counts = models[name] = Counts()
            counts.add(record)
        self.recent = nlargest(self._keep_recent, [*records, *self.recent], key=ended_us)
        self._forget(newest)

    def span(self, start: int, end: int) -> Counts:
        """Return the sum of the seconds from `start` up to, without, `end`."""
        return _sum(
            counts for second in range(start, end) for counts in self._models(second).values()
        )

    def by_model(self, start: int, end: int) -> dict[str, Counts]:
        """Return what each model did from `start` up to, without, `end`."""
        spans: dict[str, Counts] = {}
        for second in range(start, end):
            for model, counts in self._models(second).items():
                spans.setdefault(model, Counts()).merge(counts)
        return spans

    def loads(self, end: int, seconds: int) -> dict[str, float]:
        """Return each model's requests in flight, on average over `seconds` up to `end`.

        Little's law: arrivals a second times the seconds each took. Unfinished ones do not count.
        """
        return {
            model: round(counts.busy_ms / 1000 / seconds, 3)
            for model, counts in self.by_model(end - seconds, end).items()
            if model and counts.busy_ms
        }

    def _models(self, second: int) -> dict[str, Counts]:
        return self._seconds.get(second, {})

    def _forget(self, newest: int) -> None:
        for second in [s for s in self._seconds if s <= newest - KEEP_S]:
            del self._seconds[second]


def _sum(parts: Iterable[Counts]) -> Counts:
    whole = Counts()
    for part in parts:
        whole.merge(part)
    return whole

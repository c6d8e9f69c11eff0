"""Builds what dashboards are shown (`<Live>` of telemetry/live.py) out of counts and news."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from telemetry.live_window import KEEP_S, Counts, LiveWindow, ended_us
from telemetry.offering_health import KnownOffering, NewsBoard, OfferingHealth, best_breaker
from telemetry.record import Attempt, RequestRecord, credited_model
from telemetry.sampler import HostSample
from telemetry.spool.layout import SpoolUse

SERIES_POINTS = 300
RECENT_REQUESTS = 20
WINDOW_S = 10

Json = dict[str, Any]
NO_COUNTS = Counts()


class LiveState:
    """Curves and counts of the last minutes."""

    def __init__(self) -> None:
        self.window = LiveWindow(RECENT_REQUESTS)
        self.series: deque[Json] = deque(maxlen=SERIES_POINTS)
        self._earlier: list[Json] = []  # requests shown before this process started

    def resume(self, live: Json) -> None:
        """Take over the curve and the last requests of an earlier state."""
        self.series.extend(live["series"])
        self._earlier = list(live["recent"])

    def tick(
        self,
        host: HostSample,
        use: SpoolUse,
        board: NewsBoard,
        offerings: Sequence[KnownOffering],
        now: float,
    ) -> Json:
        """Return the state at `now`, its series holding the second that just ended."""
        end = math.floor(now)
        span = self.window.span(end - WINDOW_S, end)
        point = _point(self.window.span(end - 1, end), span, host, end)
        self.series.append(point)
        models = _models(self.window.by_model(end - KEEP_S + 1, end), board, offerings, now)
        return {
            **_figures(span, now),
            "simulated": bool(span.simulated or any(o.simulated for o in offerings)),
            "memory": _memory(host),
            "spool": {"backlog_bytes": use.backlog_bytes, "corrupt": use.corrupt},
            "series": [point],
            "recent": self._recent(),
            "models": models,
        }

    def _recent(self) -> list[Json]:
        now = [_request(record) for record in self.window.recent]
        return (now + self._earlier)[:RECENT_REQUESTS]


def empty_live(host: HostSample) -> Json:
    """Return a state in which nothing has happened; it is as old as can be."""
    nothing = SpoolUse(0, 0, 0)
    return LiveState().tick(host, nothing, NewsBoard(), (), host.at) | {"series": [], "at_ms": 0}


def _figures(span: Counts, now: float) -> Json:
    return {
        "at_ms": int(now * 1000),
        "stale": False,
        "window_s": WINDOW_S,
        "throughput_rps": round(span.requests / WINDOW_S, 2),
        "p50_ms": span.response_ms.quantile(0.50),
        "p95_ms": span.response_ms.quantile(0.95),
        "p99_ms": span.response_ms.quantile(0.99),
        "selection_p95_us": span.selection_us.quantile(0.95),
        "error_rate": span.error_rate,
        "fallback_rate": span.fallback_rate,
    }


def _point(second: Counts, window: Counts, host: HostSample, end: int) -> Json:
    # Quantiles of a single second say little where it holds one request.
    return {
        "at_ms": end * 1000,
        "rps": float(second.requests),
        "p50_ms": window.response_ms.quantile(0.50),
        "p95_ms": window.response_ms.quantile(0.95),
        "p99_ms": window.response_ms.quantile(0.99),
        "error_rate": window.error_rate,
        "pressure": round(host.pressure, 4),
        "cpu_percent": round(host.cpu_percent, 1),
    }


def _memory(host: HostSample) -> Json:
    return {
        "pressure": round(host.pressure, 4),
        "level": host.level,
        "available_gb": round(host.available_gb, 3),
        "free_gb": round(host.free_gb, 3),
        "total_gb": round(host.total_gb, 3),
        "cpu_percent": round(host.cpu_percent, 1),
        "swap_percent": round(host.swap_percent, 1),
    }


def _request(record: RequestRecord) -> Json:
    return {
        "request_id": record.request_id,
        "at_ms": ended_us(record) // 1000,
        "kind": record.kind,
        "task_type": record.task_type,
        "priority": record.priority,
        "selected_model": credited_model(record),
        "chosen_model": record.chosen_model,
        "endpoint": record.endpoint,
        "fallback_used": record.fallback_used,
        "degraded": record.degraded,
        "success": record.success,
        "status": record.status,
        "error_type": record.error_type,
        # Where nobody was chosen, why not.
        "reason": record.reason or record.error_message,
        "response_time_ms": record.response_time_ms,
        "selection_time_us": record.selection_time_us,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "cost_usd": record.cost_nusd / 1e9 if record.cost_known else None,
        "simulated": record.simulated,
        "attempts": [_attempt(attempt) for attempt in record.attempts],
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "model": attempt.model,
        "endpoint": attempt.endpoint,
        "duration_ms": attempt.duration_ms,
        "error_type": attempt.error_type,
    }


def _models(
    spans: Mapping[str, Counts],
    board: NewsBoard,
    offerings: Sequence[KnownOffering],
    now: float,
) -> list[Json]:
    health: dict[str, list[OfferingHealth]] = {name: [] for name in spans if name}
    for offering in offerings:
        health.setdefault(offering.model, []).append(board.health(offering, now))
    return [_model(name, spans.get(name, NO_COUNTS), health[name]) for name in sorted(health)]


def _model(name: str, counts: Counts, offerings: Sequence[OfferingHealth]) -> Json:
    return {
        "model_name": name,
        "rps": round(counts.requests / (KEEP_S - 1), 3),
        "requests": counts.requests,
        "errors": counts.errors,
        "error_rate": counts.error_rate,
        "p50_ms": counts.response_ms.quantile(0.50),
        "p95_ms": counts.response_ms.quantile(0.95),
        "healthy": any(o.healthy for o in offerings),
        "loaded": any(o.loaded for o in offerings),
        "breaker": best_breaker(offerings),
        "endpoints": [_endpoint(o) for o in sorted(offerings, key=lambda o: o.endpoint)],
    }


def _endpoint(offering: OfferingHealth) -> Json:
    return {
        "endpoint": offering.endpoint,
        "up": offering.up,
        "loaded": offering.loaded,
        "breaker": offering.breaker,
        "open_until_ms": int(offering.open_until * 1000) or None,
        "simulated": offering.simulated,
    }

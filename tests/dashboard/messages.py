"""Ticks as the conductor sends them (telemetry/live.py), with whatever a test wants different."""

import time
from typing import Any


def live(*, series: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """Return the data of one tick of a quiet service, `changes` applied."""
    now_ms = int(time.time() * 1000)
    return {
        "at_ms": now_ms,
        "stale": False,
        "window_s": 10,
        "throughput_rps": 0.0,
        "p50_ms": None,
        "p95_ms": None,
        "p99_ms": None,
        "selection_p95_us": None,
        "error_rate": None,
        "fallback_rate": None,
        "simulated": False,
        "memory": memory(0.41),
        "spool": {"backlog_bytes": 0, "corrupt": 0},
        "series": [point(now_ms)] if series is None else series,
        "recent": [],
        "models": [],
        **changes,
    }


def memory(pressure: float, level: str = "normal") -> dict[str, Any]:
    return {
        "pressure": pressure,
        "level": level,
        "available_gb": round(32 * (1 - pressure), 1),
        "free_gb": 1.5,
        "total_gb": 32.0,
        "cpu_percent": 44.0,
        "swap_percent": 2.0,
    }


def point(at_ms: int, **changes: Any) -> dict[str, Any]:
    """Return one second of the charts."""
    nothing = dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "error_rate"))
    return {"at_ms": at_ms, "rps": 0.0, **nothing, "pressure": 0.41, "cpu_percent": 44.0, **changes}


def request(number: int = 1, **changes: Any) -> dict[str, Any]:
    """Return one finished request."""
    return {
        "request_id": f"req-{number}",
        "at_ms": int(time.time() * 1000),
        "kind": "route",
        "task_type": "completion",
        "priority": "normal",
        "selected_model": "llama3.2:3b",
        "chosen_model": "llama3.2:3b",
        "endpoint": "ollama",
        "fallback_used": False,
        "degraded": False,
        "success": True,
        "status": 200,
        "error_type": "",
        "reason": "best score 0.82 of 7",
        "response_time_ms": 1240,
        "selection_time_us": 41,
        "prompt_tokens": 12,
        "completion_tokens": 345,
        "cost_usd": 0.000035,
        "simulated": False,
        "attempts": [attempt()],
        **changes,
    }


def attempt(model: str = "llama3.2:3b", error_type: str = "") -> dict[str, Any]:
    """Return one call to one offering."""
    return {"model": model, "endpoint": "ollama", "duration_ms": 900, "error_type": error_type}


def model(name: str = "llama3.2:3b", breaker: str = "closed", **changes: Any) -> dict[str, Any]:
    """Return one model at one endpoint called `ollama`."""
    return {
        "model_name": name,
        "rps": 4.5,
        "requests": 270,
        "errors": 0,
        "error_rate": 0.0,
        "p50_ms": 310,
        "p95_ms": 900,
        "healthy": breaker != "open",
        "loaded": True,
        "breaker": breaker,
        "endpoints": [
            {
                "endpoint": "ollama",
                "up": True,
                "loaded": True,
                "breaker": breaker,
                "open_until_ms": None,
                "simulated": False,
            }
        ],
        **changes,
    }

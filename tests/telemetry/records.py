"""Records for the tests of this area: real in every field, told apart by their number."""

import os
import time
from typing import Any

from telemetry.record import Attempt, RequestRecord


def time_ordered_id(now_us: int) -> bytes:
    """Return 16 bytes that sort by time, as the lanes' UUIDv7 do: what an index is kind to."""
    return now_us.to_bytes(8, "big") + os.urandom(8)


def a_record(number: int = 0, **changes: Any) -> RequestRecord:
    """Return a routed request that succeeded, unless `changes` say otherwise."""
    now_us = time.time_ns() // 1000
    fields: dict[str, Any] = {
        "id": time_ordered_id(now_us),
        "request_id": f"req-{number:08d}",
        "kind": "route",
        "task_type": "code",
        "priority": "normal",
        "created_at_us": now_us,
        "selected_model": f"model-{number % 5}",
        "endpoint": "ollama-local",
        "chosen_model": f"model-{number % 5}",
        "reason": "best score 0.82 of 7 candidates",
        "response_time_ms": 100 + number % 50,
        "selection_time_us": 45,
        "prompt_tokens": 120,
        "completion_tokens": 80,
        "cost_nusd": 1_250_000,
        "resource_pressure": 0.41,
        "worker": "web-0",
        "attempts": (Attempt(f"model-{number % 5}", "ollama-local", 100 + number % 50),),
    }
    return RequestRecord(**{**fields, **changes})

"""Answers in the shape of the contracts."""

HEALTH = {
    "status": "healthy",
    "timestamp": "2026-10-02T10:30:00+02:00",
    "version": "1.0.0",
    "services": {"database": "ok", "redis": "ok", "ollama": "ok"},
    "system": {
        "memory_pressure": 0.42,
        "available_models": 5,
        "memory_available_gb": 12.25,
        "cpu_usage_percent": 7.5,
    },
    "simulated": False,
    "endpoints": {
        "ollama": {"up": True, "version": "0.12.3", "simulated": False, "error": ""},
        "backup": {"up": False, "version": "", "simulated": False, "error": "refused"},
    },
}

MODELS = {
    "models": [
        {
            "id": "01890000-0000-7000-8000-000000000001",
            "model_name": "llama3.2:3b",
            "healthy": True,
            "status": "healthy",
            "breaker": "closed",
            "loaded": True,
            "simulated": False,
            "capabilities": ["completion", "reasoning"],
            "qualityTier": "good",
            "speed": "fast",
            "endpoints": [{"endpoint": "ollama", "up": True}, {"endpoint": "backup", "up": False}],
            "request_count": 1200,
            "success_count": 1194,
            "error_count": 6,
            "avg_response_time_ms": 812.44,
            "current_load": 0.25,
            "memory_usage_mb": 2900.0,
            "last_used": "2026-10-02T08:29:58Z",
            "created_at": "2026-10-01T00:00:00Z",
            "updated_at": "2026-10-02T08:29:58Z",
        },
        {
            "id": "01890000-0000-7000-8000-000000000002",
            "model_name": "a-model-with-a-long-name:70b",
            "status": "unavailable",
            "request_count": 0,
            "success_count": 0,
            "error_count": 0,
            "avg_response_time_ms": 0.0,
            "current_load": 0.0,
            "memory_usage_mb": 0.0,
            "last_used": None,
            "created_at": "2026-10-01T00:00:00Z",
            "updated_at": "2026-10-01T00:00:00Z",
        },
    ],
    "systemHealth": {"status": "healthy"},
    "totalModels": 2,
    "healthyModels": 1,
}

SELECTION = {
    "requestId": "req-1",
    "selectedModel": "llama3.2:3b",
    "taskType": "completion",
    "fallbackUsed": False,
    "alternatives": ["mistral:7b", "phi3:mini"],
    "systemMetrics": {"memoryPressure": 0.85, "availableMemoryGb": 4.5, "cpuUsage": 7.5},
    "modelInfo": {
        "capabilities": ["completion", "reasoning"],
        "speed": "fast",
        "quality_tier": "good",
    },
    "endpoint": "ollama",
    "reason": "score 0.81, best of 2",
    "degraded": False,
    "simulated": True,
    "explanation": [
        {
            "model": "llama3.2:3b",
            "endpoint": "ollama",
            "scores": {
                "total": 0.81,
                "quality": 0.5,
                "cost": 1.0,
                "latency": 0.7,
                "memory": 1.0,
                "success": 0.99,
                "expectedMs": 2140.0,
            },
        },
        {
            "model": "llama3.1:70b",
            "endpoint": "ollama",
            "rejected": "memory_fit",
            "detail": "needs 42.0 GB, 9.6 GB may be used",
        },
    ],
}

ROUTED = {
    "requestId": "req-2",
    "selectedModel": "llama3.2:3b",
    "response": "Grüße, 世界!\nSecond line.",
    "fallbackUsed": True,
    "metrics": {
        "responseTimeMs": 431,
        "memoryPressure": 0.42,
        "modelUsed": "mistral:7b",
        "tokensGenerated": 12,
        "promptTokens": 5,
    },
    "endpoint": "ollama",
    "reason": "score 0.81, best of 2",
    "finishReason": "stop",
    "degraded": True,
    "simulated": False,
    "costUsd": 0.000012,
}


def resource_sample(minute: int, available_gb: float = 12.25) -> dict[str, object]:
    return {
        "id": f"01890000-0000-7000-8000-0000000000{minute:02d}",
        "memory_available_gb": available_gb,
        "memory_free_gb": 2.0,
        "memory_total_gb": 16.0,
        "cpu_usage_percent": 7.5,
        "swap_used_percent": 0.0,
        "recorded_at": f"2026-10-02T08:{minute:02d}:00Z",
    }


RESOURCES = {
    "current": resource_sample(59),
    "history": [resource_sample(minute, float(minute % 3)) for minute in range(59, -1, -1)],
    "requests": [
        {
            "started_at": f"2026-10-02T08:{minute:02d}:00Z",
            "seconds": 60,
            "request_count": 100,
            "success_count": 99,
            "error_count": 1,
            "fallback_count": 2,
            "avg_response_time_ms": 431.0,
            "max_response_time_ms": 900,
            "prompt_tokens": 1000,
            "completion_tokens": 500,
            "cost_usd": 0.25,
        }
        for minute in (57, 58)
    ],
    "memoryPressure": 0.23,
    "admission": [
        {
            "endpoint": "ollama-local",
            "running": 4,
            "waiting": 3,
            "limit": 4,
            "expectedWaitMs": 1200,
            "degraded": False,
        }
    ],
}

PROBLEM = {
    "type": "urn:ai-orchestra:problem:invalid_request",
    "title": "Invalid request",
    "status": 422,
    "detail": "1 field is wrong.",
    "code": "invalid_request",
    "errors": [
        {
            "pointer": "/requirements/maxTokens",
            "detail": "is more than any model can hold.",
            "remedy": "Ask for at most 131072.",
        }
    ],
    "requestId": "req-3",
}

BUDGETS = {
    "budgets": [
        {
            "name": "team",
            "scope": "tenant",
            "subject": "acme",
            "period": "month",
            "limit_usd": 100.0,
            "spent_usd": 41.2,
            "held_usd": 0.0125,
            "forecast_usd": None,
            "exhausted": False,
            "window_end": "2026-12-01T00:00:00Z",
        }
    ],
    "total": 1,
}

BREAKERS = {
    "breakers": [
        {
            "model": "codellama:7b",
            "endpoint": "ollama",
            "state": "open",
            "open_until": "2026-11-26T20:31:15.204117Z",
            "openings": 1,
            "reason": "upstream_timeout",
            "since": "2026-11-26T20:31:00.118402Z",
        },
        {
            "model": "llama3.2:3b",
            "endpoint": "ollama",
            "state": "closed",
            "open_until": None,
            "openings": 0,
            "reason": "",
            "since": None,
        },
    ],
    "total": 2,
    "open": 1,
}

LIMITS = {
    "limits": [
        {
            "of": "tenant",
            "owner": "acme",
            "name": "requests_per_day",
            "most": 1000,
            "period_s": 86400,
            "used": 990,
            "leased": 10,
            "left": 0,
            "full_at": "2026-11-26T20:31:15.204117Z",
            "workers": 2,
        },
        {
            "of": "key",
            "owner": "ci",
            "name": "tokens_per_minute",
            "most": 6000,
            "period_s": 60,
            "used": 6120,
            "leased": 0,
            "left": 0,
            "full_at": "2026-11-26T20:30:15.204117Z",
            "workers": 0,
        },
    ],
    "total": 2,
    "exhausted": 1,
}

_PERIOD = {"from": "2026-11-01T00:00:00Z", "to": "2026-11-08T00:00:00Z", "groupBy": "model"}
_COST = {
    "requestCount": 1200, "successCount": 1190, "errorCount": 10, "fallbackCount": 3,
    "simulatedCount": 4, "promptTokens": 120_000, "cachedTokens": 20_000,
    "completionTokens": 60_000, "costUsd": 0.125, "costUnknownCount": 7,
}  # fmt: skip
COSTS = {
    **_PERIOD, "total": _COST, "groups": [{"group": "llama3.2:3b", **_COST}], "moreGroups": 2,
}  # fmt: skip
_GAIN = {"requestCount": 10, "costUsd": 1.0, "baselineUsd": 4.0, "savedUsd": 3.0,
         "savedPercent": 75.0}  # fmt: skip
_LOSS = {"requestCount": 1, "costUsd": 0.5, "baselineUsd": 0.0, "savedUsd": -0.5,
         "savedPercent": None}  # fmt: skip
_SAVING = {
    "requestCount": 11, "costUsd": 1.5, "baselineUsd": 4.0, "savedUsd": 2.5, "savedPercent": 62.5,
    "measured": _GAIN, "estimated": _LOSS, "notComparedCount": 3, "simulatedCount": 0,
}  # fmt: skip
SAVINGS = {
    **_PERIOD, "total": _SAVING, "groups": [{"group": "", **_SAVING}], "moreGroups": 0,
}  # fmt: skip

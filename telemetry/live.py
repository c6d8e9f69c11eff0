"""What an open dashboard is told: one snapshot when it connects, then one tick a second.

The conductor sends `{"type": "live.tick", "data": <Live>}` to the Channels group `live` once a
second (a consumer handles it in `live_tick`). `await live_snapshot()` returns the same `<Live>` for
a client that has just connected; it differs only in `series`, which holds up to 300 points there
and exactly one, the newest, in a tick. Every value is plain JSON; `null` stands where there is
nothing to measure.

    Live = {
      "at_ms": int,                 # epoch milliseconds of this state
      "stale": bool,                # true: no conductor has reported for 5 s (snapshot only)
      "window_s": 10,               # span of the figures below, up to at_ms
      "throughput_rps": float,      # finished requests per second, all kinds
      "p50_ms": int | null, "p95_ms": int | null, "p99_ms": int | null,   # response, within 3 %
      "selection_p95_us": int | null,                                     # our own decision
      "error_rate": float | null,   # 0..1
      "fallback_rate": float | null,  # 0..1
      "simulated": bool,            # some of what is shown comes from a simulated endpoint
      "memory": {"pressure": float, "level": "normal"|"elevated"|"high"|"critical",
                 "available_gb": float, "free_gb": float, "total_gb": float,
                 "cpu_percent": float, "swap_percent": float},
      "spool": {"backlog_bytes": int, "corrupt": int},  # not yet in PostgreSQL; set aside
      "series": [{"at_ms": int, "rps": float, "p50_ms": int | null, "p95_ms": int | null,
                  "error_rate": float | null, "pressure": float}],      # one a second, oldest first
      "recent": [{"request_id": str, "at_ms": int, "kind": str, "task_type": str, "priority": str,
                  "selected_model": str, "chosen_model": str, "endpoint": str,
                  "fallback_used": bool, "degraded": bool, "success": bool, "status": int,
                  "error_type": str, "reason": str,
                  "response_time_ms": int, "selection_time_us": int, "prompt_tokens": int,
                  "completion_tokens": int, "cost_usd": float | null, "simulated": bool}],
                                                        # newest first, at most 20
      "models": [{"model_name": str, "rps": float, "requests": int, "errors": int,   # last 60 s
                  "error_rate": float | null, "p50_ms": int | null, "p95_ms": int | null,
                  "healthy": bool,            # some endpoint is up with its breaker not open
                  "loaded": bool,             # in memory somewhere
                  "breaker": "closed"|"half-open"|"open",   # the best of its endpoints
                  "endpoints": [{"endpoint": str, "up": bool | null, "loaded": bool,
                                 "breaker": "closed"|"half-open"|"open",
                                 "open_until_ms": int | null, "simulated": bool}]}]
                                                        # sorted by model_name
    }
"""

LIVE_GROUP = "live"
TICK_TYPE = "live.tick"
SERIES_POINTS = 300
RECENT_REQUESTS = 20

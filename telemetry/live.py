"""What an open dashboard is told: one snapshot when it connects, then one tick a second.

The conductor sends `{"type": "live.tick", "data": <Live>}` to the Channels group `live` once a
second (a consumer handles it in `live_tick`). `await live_snapshot()` returns the same `<Live>` for
a client that has just connected; it differs only in `series`, which holds up to 300 points there
and exactly one, the newest, in a tick. Every value is plain JSON; `null` stands where there is
nothing to measure.

    Live = {
      "at_ms": int,                 # epoch milliseconds of this state
      "stale": bool,                # true: no conductor has reported for 5 s (only in a snapshot)
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
                  "p99_ms": int | null, "error_rate": float | null, "pressure": float,
                  "cpu_percent": float}],  # one a second, oldest first; `rps` counts that second,
                                           # quantiles and rate look back over window_s
      "recent": [{"request_id": str, "at_ms": int, "kind": str, "task_type": str, "priority": str,
                  "selected_model": str, "chosen_model": str, "endpoint": str,
                  "fallback_used": bool, "degraded": bool, "success": bool, "status": int,
                  "error_type": str, "reason": str,  # of the choice; without one, of the failure
                  "response_time_ms": int, "selection_time_us": int, "prompt_tokens": int,
                  "completion_tokens": int, "cost_usd": float | null, "simulated": bool,
                  "attempts": [{"model": str, "endpoint": str, "duration_ms": int,
                                "error_type": str}]}],  # in order; "" where it answered
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

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from channels.layers import get_channel_layer  # type: ignore[import-untyped]
from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from telemetry import redis_names
from telemetry.live_state import LiveState, empty_live
from telemetry.loads import tell_loads
from telemetry.offering_health import KnownOffering, NewsBoard, memory_by_model, read_board
from telemetry.record import RequestRecord
from telemetry.redis_client import open_redis
from telemetry.sampler import HostSample, sample
from telemetry.spool.layout import spool_use
from telemetry.waiting import pause

logger = logging.getLogger(__name__)

LIVE_GROUP = "live"
TICK_TYPE = "live.tick"
STALE_S = 5.0
# A second is told of this long after it ended, so that what it holds has been shipped.
SHIP_LAG_S = 0.3
LOAD_WINDOW_S = 10


class LiveFeed:
    """The conductor's job: counts what was shipped and tells the dashboards once a second."""

    def __init__(self, redis: Redis, conductor: str) -> None:
        self.state = LiveState()
        self.board = NewsBoard()
        self.offerings: Sequence[KnownOffering] = ()
        self._redis = redis
        self._conductor = conductor
        self._away = False

    def shipped(self, records: Sequence[RequestRecord]) -> None:
        """Count records that are in PostgreSQL now."""
        self.state.window.add(records, time.time())

    def memory_by_model(self) -> dict[str, float]:
        """Return the megabytes that each loaded model uses, as its endpoints say."""
        return memory_by_model(self.offerings, self.board)

    async def run(self, stop: asyncio.Event) -> None:
        """Tell a tick every second until `stop` is set."""
        await self._resume()
        while not await pause(stop, _until_next_tick(time.time())):
            try:
                await self._tick(sample())
                self._away = False
            except (RedisError, OSError) as exc:
                if not self._away:
                    logger.warning("Dashboards are not told, Redis is away: %s", exc)
                self._away = True

    async def _tick(self, host: HostSample) -> None:
        self.board = await read_board(self._redis)
        use = spool_use(settings.SPOOL_DIR)
        live = self.state.tick(host, use, self.board, self.offerings, time.time())
        whole = live | {"series": list(self.state.series)}
        await self._redis.set(redis_names.LIVE_LAST, json.dumps(whole), ex=3600)
        loads = self.state.window.loads(int(time.time()), LOAD_WINDOW_S)
        await tell_loads(self._redis, self._conductor, loads)
        layer = get_channel_layer()
        if layer is not None:
            await layer.group_send(LIVE_GROUP, {"type": TICK_TYPE, "data": live})

    async def _resume(self) -> None:
        """Go on with the curves of the conductor before this one."""
        with contextlib.suppress(RedisError, OSError, ValueError, TypeError, KeyError):
            kept = await self._redis.get(redis_names.LIVE_LAST)
            if kept:
                self.state.resume(json.loads(kept))


def _until_next_tick(now: float) -> float:
    wait_s = SHIP_LAG_S - now % 1
    return wait_s if wait_s > 0 else wait_s + 1


async def live_snapshot() -> dict[str, Any]:
    """Return `<Live>` for a client that has just connected; raises RedisError if Redis is away.

    Where no conductor reports, it is marked `stale`, with the memory of this host.
    """
    async with open_redis() as redis:
        kept = await redis.get(redis_names.LIVE_LAST)
    live: dict[str, Any] = json.loads(kept) if kept else empty_live(sample())
    live["stale"] = time.time() - live["at_ms"] / 1000 > STALE_S
    return live

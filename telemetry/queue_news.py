"""Who runs and waits at each endpoint, as each worker says and as operators see it in sum."""

import time
from collections.abc import Iterable
from typing import Any

import msgspec

# Workers repeat what stays the same every few seconds; a dead one is heard of no more.
FRESH_S = 10.0


class EndpointQueue(msgspec.Struct, frozen=True):
    """One endpoint in one worker; `limit` is of all workers together."""

    endpoint: str
    running: int
    waiting: int
    limit: int
    expected_wait_ms: int
    degraded: bool = False  # Redis is away: an equal share of what was last known


class QueueNews(msgspec.Struct, frozen=True, tag="queues", tag_field="type"):
    """All endpoints of one worker."""

    worker: str
    at: float
    endpoints: tuple[EndpointQueue, ...] = ()

    @property
    def key(self) -> str:
        return f"queues:{self.worker}"


def busy(row: EndpointQueue) -> bool:
    return row.running > 0 or row.waiting > 0


def admission(news: Iterable[QueueNews], now: float | None = None) -> list[dict[str, Any]]:
    """Return what all workers say of each endpoint, by name."""
    now = time.time() if now is None else now
    rows = [row for one in news if one.at >= now - FRESH_S for row in one.endpoints]
    return [_summed(name, rows) for name in sorted({row.endpoint for row in rows})]


def _summed(name: str, rows: Iterable[EndpointQueue]) -> dict[str, Any]:
    own = [row for row in rows if row.endpoint == name]
    return {
        "endpoint": name,
        "running": sum(row.running for row in own),
        "waiting": sum(row.waiting for row in own),
        "limit": max(row.limit for row in own),
        "expectedWaitMs": max(row.expected_wait_ms for row in own),
        "degraded": any(row.degraded for row in own),
    }

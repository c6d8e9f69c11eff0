"""Answers that cost more than was held for them, as each worker says and as operators see it."""

import time
from collections.abc import Iterable
from typing import Any

import msgspec

# Workers say so again every minute; a dead one is heard of no more.
AGAIN_S = 60.0
FRESH_S = 3 * AGAIN_S


class OverrunNews(msgspec.Struct, frozen=True, tag="overruns", tag_field="type"):
    """What one worker has counted since it began; told once there is anything."""

    worker: str
    at: float
    count: int  # answers that cost more than was held, or claimed what nobody believes
    nusd: int  # beyond what was held

    @property
    def key(self) -> str:
        return f"overruns:{self.worker}"


def overruns(news: Iterable[OverrunNews], now: float | None = None) -> dict[str, Any]:
    """Return what the living workers count together."""
    now = time.time() if now is None else now
    fresh = [one for one in news if one.at >= now - FRESH_S]
    return {
        "count": sum(one.count for one in fresh),
        "overrunUsd": sum(one.nusd for one in fresh) / 1e9,
        "workers": len(fresh),
    }

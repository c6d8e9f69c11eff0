"""Redis as telemetry uses it: raw bytes, bounded in time."""

from typing import cast

from django.conf import settings
from redis.asyncio import Redis

# Longer than a blocking read of the event stream waits.
ANSWER_LIMIT_S = 2.0


def open_redis(limit_s: float = ANSWER_LIMIT_S) -> Redis:
    """Return a client of `settings.REDIS_URL`; it connects when first used, and again after faults.

    A call that has no answer within `limit_s` raises redis.exceptions.TimeoutError.
    """
    return Redis.from_url(
        settings.REDIS_URL, socket_timeout=limit_s, socket_connect_timeout=limit_s
    )


async def raw_hash(redis: Redis, name: str) -> dict[bytes, bytes]:
    """Return a whole hash; empty where there is none."""
    return cast("dict[bytes, bytes]", await redis.hgetall(name))

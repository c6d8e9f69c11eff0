"""The state news as Redis has it now, for views."""

import asyncio

from asgiref.sync import async_to_sync
from redis.exceptions import RedisError

from telemetry.offering_health import NewsBoard, read_board
from telemetry.redis_client import open_redis

REDIS_LIMIT_S = 1.0


def current_board() -> NewsBoard | None:
    """Return the last state news; None while Redis is away."""
    try:
        return async_to_sync(_read_board)()
    except (RedisError, OSError, TimeoutError):
        return None


async def _read_board() -> NewsBoard:
    async with asyncio.timeout(REDIS_LIMIT_S), open_redis(REDIS_LIMIT_S) as redis:
        return await read_board(redis)

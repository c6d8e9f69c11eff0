"""How much of limits is used now, for the control plane and the admin."""

import asyncio

from asgiref.sync import async_to_sync
from redis.exceptions import RedisError

from routing.coordination.rates_board import Usage, read_usage
from routing.engine.rates import Limit
from telemetry.redis_client import open_redis

AWAY = (RedisError, OSError, TimeoutError)
REDIS_LIMIT_S = 1.0


def current_usage(limits: list[Limit]) -> list[Usage]:
    """Return the use of each limit now; raises what AWAY names while Redis is away."""
    return async_to_sync(_read)(limits)


async def _read(limits: list[Limit]) -> list[Usage]:
    async with asyncio.timeout(REDIS_LIMIT_S), open_redis(REDIS_LIMIT_S) as redis:
        return await read_usage(redis, limits)

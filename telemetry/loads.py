"""Keeps `current_load` and `memory_usage_mb` of each model's row up to date.

Each conductor tells the requests in flight that it saw in the hash `LOADS`; the leader sums them up
and writes the rows.
"""

import time

import msgspec
from redis.asyncio import Redis

from telemetry import redis_names
from telemetry.database import AsyncConnection
from telemetry.redis_client import raw_hash

# What a conductor said longer ago than this is that of a dead one.
LOAD_AGE_S = 15.0

REFRESH = """
WITH told AS (
    SELECT t.id, coalesce(load.n, 0) AS load, coalesce(memory.mb, 0) AS mb
    FROM telemetry_modelmetric AS t
    LEFT JOIN unnest(%(loaded)s::text[], %(loads)s::float8[]) AS load (model, n)
        ON load.model = t.model_name
    LEFT JOIN unnest(%(held)s::text[], %(megabytes)s::float8[]) AS memory (model, mb)
        ON memory.model = t.model_name
    WHERE (t.current_load, t.memory_usage_mb)
        IS DISTINCT FROM (coalesce(load.n, 0), coalesce(memory.mb, 0))
    -- In the shipper's order, so that the two never wait for each other in a circle.
    ORDER BY t.model_name FOR UPDATE OF t
)
UPDATE telemetry_modelmetric AS t
SET current_load = told.load, memory_usage_mb = told.mb, updated_at = now()
FROM told WHERE t.id = told.id
"""

_decode = msgspec.msgpack.Decoder(tuple[float, dict[str, float]]).decode


async def tell_loads(redis: Redis, conductor: str, loads: dict[str, float]) -> None:
    """Tell how many requests of each model this conductor's workers have in flight."""
    message = msgspec.msgpack.encode((time.time(), loads))
    await redis.hset(redis_names.LOADS, conductor, message)


async def all_loads(redis: Redis) -> dict[str, float]:
    """Return the requests in flight of each model, over all living conductors."""
    told = await raw_hash(redis, redis_names.LOADS)
    total: dict[str, float] = {}
    for conductor, message in told.items():
        at, loads = _decode(message)
        if at < time.time() - LOAD_AGE_S:
            await redis.hdel(redis_names.LOADS, conductor)
            continue
        for model, load in loads.items():
            total[model] = round(total.get(model, 0.0) + load, 3)
    return total


async def refresh(
    connection: AsyncConnection, loads: dict[str, float], memory_mb: dict[str, float]
) -> None:
    """Update the rows whose load or memory changed; a model that is not named has none."""
    await connection.execute(
        REFRESH,
        {
            "loaded": list(loads),
            "loads": list(loads.values()),
            "held": list(memory_mb),
            "megabytes": list(memory_mb.values()),
        },
    )

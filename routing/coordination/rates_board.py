"""How much of each limit is used, as Redis has it now: for people, not for deciding."""

import msgspec
from redis.asyncio import Redis

from routing.engine.rates import Bucket, Limit, Row
from telemetry.redis_names import RATES

MICRO = 1_000_000


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One limit's units: used + leased + left = most, but for a debt, when `used` is more."""

    limit: Limit
    used: int
    leased: int  # held by workers: about to be used, or by requests under way
    left: int
    full_at_s: float | None  # epoch seconds; None where nothing is missing, and for permits
    workers: int  # that hold some


async def read_usage(redis: "Redis", limits: list[Limit]) -> list[Usage]:
    """Return the use of each limit; raises RedisError."""
    pipe = redis.pipeline(transaction=False)
    pipe.time()
    for limit in limits:
        pipe.hgetall(RATES + limit.id)
    (seconds, micros), *hashes = await pipe.execute()
    now_us = int(seconds) * MICRO + int(micros)
    return [_usage(limit, said, now_us) for limit, said in zip(limits, hashes, strict=True)]


def _usage(limit: Limit, said: dict[bytes, bytes], now_us: int) -> Usage:
    most = int(said.get(b"most", limit.most))
    bucket = Bucket(most, limit.period_us, most)
    bucket.full_at_us = int(said.get(b"full", now_us))
    for name, row in said.items():
        if name.startswith(b"w:"):
            holds, until_us = (int(word) for word in row.split()[:2])
            if until_us > now_us:
                bucket.rows[name.decode()] = Row(holds, until_us, 0, most)
    bucket.heed(now_us, limit.most)
    bucket.fill(now_us)
    left, leased = bucket.left(now_us), bucket.leased
    missing = limit.period_us and bucket.full_at_us > now_us
    return Usage(
        limit=limit,
        used=limit.burst - left - leased,
        leased=leased,
        left=max(left, 0),
        full_at_s=bucket.full_at_us / MICRO if missing else None,
        workers=sum(row.holds > 0 for row in bucket.rows.values()),
    )

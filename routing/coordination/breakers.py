"""Breakers shared over Redis: one joined standing for each offering, one probe in the fleet.

Both scripts read the clock of Redis, which is the only one that all nodes share.
"""

import asyncio
import itertools
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import msgspec
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from routing.engine.breaker import GENERATION_STEP_S
from telemetry.redis_names import PROBE, STATE_CHANNEL, STATE_LAST
from telemetry.state_news import BreakerNews, decode, encode

CLAIM_LIMIT_S = 1.0

# KEYS: hash of last news. ARGV: field, news, channel. Joins as `Breaker.hear` does: the younger
# generation, or within one the later opening. Stale news is answered with what is known.
_TELL = """
local raw = redis.call('HGET', KEYS[1], ARGV[1])
local told = ARGV[2]
local read, old = false, nil
if raw then read, old = pcall(cmsgpack.unpack, raw) end
if read and type(old) == 'table' then
  local new = cmsgpack.unpack(told)
  local before, after = old.generation or 0, new.generation or 0
  if before > after or (before == after and old.state == 'open' and new.state ~= 'open') then
    told = raw
  elseif before == after and old.state == 'open' then
    new.open_until = math.max(old.open_until, new.open_until)
    new.openings = math.max(old.openings or 0, new.openings)
    told = cmsgpack.pack(new)
  end
end
redis.call('HSET', KEYS[1], ARGV[1], told)
redis.call('PUBLISH', ARGV[3], told)
return told
"""

# KEYS: claim, hash of last news. ARGV: token, ttl in ms, field, generation. Answers whether it is
# granted, news that the claimant has missed, and how many ms the other's claim still holds.
_CLAIM = """
local raw = redis.call('HGET', KEYS[2], ARGV[3])
local read, last = false, nil
if raw then read, last = pcall(cmsgpack.unpack, raw) end
if read and type(last) == 'table' then
  local time = redis.call('TIME')
  local now, known = time[1] + time[2] / 1e6, tonumber(ARGV[4])
  local generation = last.generation or 0
  if generation > known then return {0, raw, 0} end
  if generation == known and last.state == 'open' and last.open_until > now then
    return {0, raw, 0}
  end
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return {1, '', 0} end
-- The answer to the first asking was lost, and this is the second.
if redis.call('GET', KEYS[1]) == ARGV[1] then return {1, '', 0} end
return {0, '', redis.call('PTTL', KEYS[1])}
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim: granted, or why not."""

    granted: bool
    missed: bytes = b""  # news that the claimant has not heard yet
    taken_s: float = 0.0  # how long the other's claim still holds, at most


class ProbeClaims:
    """One worker's claims to the fleet's one probe of each offering."""

    def __init__(self, redis_url: str, owner: str) -> None:
        self._owner = owner
        self._numbers = itertools.count(1)
        self._client = redis.asyncio.Redis.from_url(
            redis_url,
            socket_connect_timeout=CLAIM_LIMIT_S,
            socket_timeout=CLAIM_LIMIT_S,
            # Once, for a pooled connection that Redis closed; a caller waits for this.
            retry=Retry(NoBackoff(), 1),
        )

    def token(self) -> str:
        """Return what the next claim is held by; no other worker's is equal to it."""
        return f"{self._owner}/{next(self._numbers)}"

    async def claim(self, offering: str, generation: float, token: str, ttl_s: float) -> Claim:
        """Claim the probe of an offering for `ttl_s`.

        Without Redis, raises RedisError or OSError, within `CLAIM_LIMIT_S`.
        """
        field = f"breaker:{offering}"
        ttl_ms = max(1, int(ttl_s * 1000))
        keys = (PROBE + offering, STATE_LAST)
        asked = self._client.eval(_CLAIM, 2, *keys, token, str(ttl_ms), field, repr(generation))
        async with asyncio.timeout(CLAIM_LIMIT_S):
            granted, missed, taken_ms = await cast("Awaitable[tuple[int, bytes, int]]", asked)
        return Claim(bool(granted), missed, max(taken_ms, 0) / 1000)

    async def close(self) -> None:
        await self._client.aclose()


async def release(client: redis.asyncio.Redis, offering: str, token: str) -> None:
    """Give a claim back, unless it has expired and somebody else holds it."""
    await cast("Awaitable[int]", client.eval(_RELEASE, 1, PROBE + offering, token))


async def tell(client: redis.asyncio.Redis, news: BreakerNews) -> None:
    """Join `news` with what Redis knows of the offering, and publish the outcome."""
    told = client.eval(_TELL, 1, STATE_LAST, news.key, encode(news), STATE_CHANNEL)
    await cast("Awaitable[bytes]", told)


def reset(client: redis.Redis, offerings: list[str], worker: str) -> None:
    """Close the breakers of these offerings in every worker, and free their probes."""
    if not offerings:
        return
    seconds, micros = client.time()
    now = seconds + micros / 1e6
    last = client.hmget(STATE_LAST, [f"breaker:{offering}" for offering in offerings])
    with client.pipeline(transaction=False) as pipe:
        for offering, raw in zip(offerings, cast("list[bytes | None]", last), strict=True):
            # Redis's clock may have gone back since, as after a failover.
            generation = max(now, _generation(raw) + GENERATION_STEP_S)
            news = BreakerNews(offering, "closed", at=now, worker=worker, generation=generation)
            pipe.delete(PROBE + offering)
            pipe.eval(_TELL, 1, STATE_LAST, news.key, encode(news), STATE_CHANNEL)
        pipe.execute()


def _generation(raw: bytes | None) -> float:
    # What a newer release wrote may be unreadable here.
    with suppress(msgspec.DecodeError):
        news = decode(raw or b"")
        return news.generation if isinstance(news, BreakerNews) else 0.0
    return 0.0

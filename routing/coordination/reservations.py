"""The ledger of loads that all workers and nodes share: `routing.engine.reservations` in Redis.

One hash for each host, one script for everything that changes it, Redis' own clock for what
lapses. A worker that dies while it loads is forgotten when its promise lapses.
"""

import logging
import math
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import redis.asyncio
from redis.exceptions import RedisError

from routing.engine.reservations import (
    KEEP_MS,
    SETTLE_MS,
    Granted,
    HostBusy,
    Joined,
    NoRoom,
    Outcome,
    Unavailable,
    Wish,
)
from telemetry.redis_names import RESERVATIONS

logger = logging.getLogger(__name__)

AWAY = (RedisError, OSError, TimeoutError)
TIMEOUT_S = 1.0
# After a failure nobody waits for Redis again before this has passed.
RETRY_S = 1.0
LOCAL_HOST = "local"

REDIS_CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
# ARGV: what to do, key, token, then for `reserve`: need, room, age, expected, time to live; for
# `renew`: time to live. A promise is `token need expires ready loaded`, as the engine names them.
LEDGER = f"""
local settle, keep = {SETTLE_MS}, {KEEP_MS}
local what, key, token = ARGV[1], ARGV[2], ARGV[3]
local promises, names, raw = {{}}, {{}}, redis.call('HGETALL', KEYS[1])
for i = 1, #raw, 2 do
  local t, need, expires, ready, loaded = raw[i + 1]:match('^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  if tonumber(expires) <= now then
    redis.call('HDEL', KEYS[1], raw[i])
  else
    promises[raw[i]] = {{token = t, need = tonumber(need), expires = tonumber(expires),
                        ready = tonumber(ready), loaded = tonumber(loaded)}}
    names[#names + 1] = raw[i]
  end
end
table.sort(names)

local function put(p)
  local text = string.format('%s %d %d %d %d', p.token, p.need, p.expires, p.ready, p.loaded)
  redis.call('HSET', KEYS[1], key, text)
  if redis.call('PTTL', KEYS[1]) < p.expires - now then
    redis.call('PEXPIRE', KEYS[1], p.expires - now)
  end
end

local mine = promises[key]
if what == 'reserve' then
  local need, room, age = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
  local function visible(p) return p.loaded > 0 and now - age >= p.loaded + settle end
  if mine and not visible(mine) then
    local wait = mine.loaded > 0 and 0 or math.max(mine.ready - now, 0)
    return {{'joined', mine.token, wait, mine.loaded > 0 and 1 or 0}}
  end
  local reserved = 0
  for _, name in ipairs(names) do
    local p = promises[name]
    if p.loaded == 0 then return {{'busy', name, math.max(p.ready - now, 0)}} end
    if not visible(p) then reserved = reserved + p.need end
  end
  if need > room - reserved then return {{'full', room - reserved, reserved}} end
  put({{token = token, need = need, expires = now + tonumber(ARGV[8]),
       ready = now + tonumber(ARGV[7]), loaded = 0}})
  return {{'granted', token}}
end

if not mine or mine.token ~= token then return 0 end
if what == 'release' then
  redis.call('HDEL', KEYS[1], key)
  return 1
end
if mine.loaded > 0 then return 0 end
if what == 'settle' then
  mine.loaded, mine.expires = now, now + keep
else
  mine.expires = now + tonumber(ARGV[4])
end
put(mine)
return 1
"""


class Reservations:
    """One worker's access to the ledgers. Nothing raises: without Redis it is `Unavailable`."""

    def __init__(
        self,
        redis_url: str,
        *,
        node: str = "",
        clock: Callable[[], float] = time.monotonic,
        redis_clock: str = REDIS_CLOCK,
    ) -> None:
        self._client = redis.asyncio.Redis.from_url(
            redis_url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        )
        self._script = self._client.register_script(redis_clock + LEDGER)
        self._node = node or socket.gethostname()
        self._clock = clock
        self._retry_at = -math.inf

    async def reserve(self, host: str, wish: Wish) -> Outcome:
        """Promise memory of `host` for a load, or say what speaks against it."""
        reply = await self._run(
            host,
            "reserve",
            wish.key,
            wish.token,
            wish.need_mb,
            wish.room_mb,
            wish.age_ms,
            wish.expected_ms,
            wish.ttl_ms,
        )
        return Unavailable() if reply is None else _outcome(reply)

    async def renew(self, host: str, key: str, token: str, ttl_ms: int) -> bool:
        """Hold a promise for longer; False if it has lapsed, or Redis is away."""
        return bool(await self._run(host, "renew", key, token, ttl_ms) == 1)

    async def settle(self, host: str, key: str, token: str) -> bool:
        """End a load that worked; should this not arrive, the promise lapses by itself."""
        return bool(await self._run(host, "settle", key, token) == 1)

    async def release(self, host: str, key: str, token: str) -> bool:
        """Take a promise back; should this not arrive, it lapses by itself."""
        return bool(await self._run(host, "release", key, token) == 1)

    async def close(self) -> None:
        await self._client.aclose()

    async def _run(self, host: str, what: str, *args: Any) -> Any:
        """Return the script's reply, or None while Redis is away."""
        if self._clock() < self._retry_at:
            return None
        try:
            return await cast(
                Awaitable[Any], self._script(keys=[self._ledger(host)], args=[what, *args])
            )
        except AWAY as exc:
            self._retry_at = self._clock() + RETRY_S
            logger.debug("Loads cannot be reserved: %s", exc)
            return None

    def _ledger(self, host: str) -> str:
        # Every node calls its own machine `local`.
        return RESERVATIONS + (f"local@{self._node}" if host == LOCAL_HOST else host)


def _outcome(reply: list[Any]) -> Outcome:
    said, *rest = reply
    match said:
        case b"granted":
            return Granted(rest[0].decode())
        case b"joined":
            return Joined(rest[0].decode(), rest[1], loaded=rest[2] == 1)
        case b"busy":
            return HostBusy(rest[0].decode(), rest[1])
        case _:
            return NoRoom(rest[0], rest[1])

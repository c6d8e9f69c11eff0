"""Answers kept in Redis under the key of a request, and the mark of who is making one.

A mark is a lease: it ends by itself when its holder dies. All values are opaque to Redis.
"""

import secrets
from dataclasses import dataclass
from typing import cast

import redis.asyncio
from redis.exceptions import RedisError

from telemetry.redis_names import IDEMPOTENCY

AWAY = (RedisError, OSError, TimeoutError)
TIMEOUT_S = 1.0
RUNNING, DONE = b"r", b"d"
FINGERPRINT_BYTES = 32

# KEYS: the request's key. ARGV: the mark that must be there, its replacement ("" removes it), and
# for how many ms that is kept. A mark that is gone (Redis was emptied, or its time was over while
# nobody else came) is still its holder's.
_REPLACE = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of a key: somebody makes the answer, or (`answer`) it is there."""

    fingerprint: bytes
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make the answer of one key."""

    key: str
    fingerprint: bytes
    value: bytes


class AnswerStore:
    """Claims, answers and releases. Every method raises one of `AWAY` where Redis is not there."""

    def __init__(self, redis_url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(
            redis_url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        )

    async def claim(self, key: str, fingerprint: bytes, lease_s: float) -> Claim | Mark:
        """Return a claim if nobody has one and there is no answer, else what is there."""
        value = RUNNING + fingerprint + secrets.token_bytes(12)
        name = IDEMPOTENCY + key
        while True:
            if await self._client.set(name, value, nx=True, px=int(lease_s * 1000)):
                return Claim(key, fingerprint, value)
            if (found := await self.look(key)) is not None:
                return found

    async def look(self, key: str) -> Mark | None:
        """Return what is known of a key."""
        raw = cast(bytes | None, await self._client.get(IDEMPOTENCY + key))
        if raw is None:
            return None
        kind, rest = raw[:1], raw[1:]
        fingerprint, rest = rest[:FINGERPRINT_BYTES], rest[FINGERPRINT_BYTES:]
        return Mark(fingerprint, rest if kind == DONE else None)

    async def renew(self, claim: Claim, lease_s: float) -> bool:
        """Hold the claim for longer; False if it is lost."""
        return await self._replace(claim, claim.value, lease_s)

    async def finish(self, claim: Claim, answer: bytes, keep_s: float) -> bool:
        """Put the answer in the claim's place; False if the claim is lost."""
        return await self._replace(claim, DONE + claim.fingerprint + answer, keep_s)

    async def release(self, claim: Claim) -> None:
        """Let the next one make the answer."""
        await self._replace(claim, b"", 0)

    async def close(self) -> None:
        await self._client.aclose()

    async def _replace(self, claim: Claim, value: bytes, keep_s: float) -> bool:
        name, keep_ms = IDEMPOTENCY + claim.key, int(keep_s * 1000)
        done = self._client.eval(_REPLACE, 1, name, claim.value, value, keep_ms)
        return bool(await done)

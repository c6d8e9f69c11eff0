"""Publishes events on the Redis stream, in batches and behind everything else.

An entry has the fields `name`, `payload` (JSON), `at` (ISO 8601, UTC) and `id` (UUID). An event may
come twice, with the same `id`, when Redis fails in the middle of a batch; and events still waiting
in memory are lost with the process, which is why rows and not events are the record. What is told
with `publish_once` waits in a row instead, and comes once.
"""

import asyncio
import datetime as dt
import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from telemetry import redis_names
from telemetry.events import NAMES, Event, of_record
from telemetry.record import RequestRecord
from telemetry.waiting import Backoff, pause

logger = logging.getLogger(__name__)

STREAM_LENGTH = 100_000
KEEP_EVENTS = 50_000  # while Redis is away; some 20 MB
BATCH_EVENTS = 1000
IDLE_S = 0.1

# One argument for a whole batch: an XADD each costs the conductor 35 µs of CPU, this 1 µs.
_ADD_ALL = """
for _, e in ipairs(cmsgpack.unpack(ARGV[2])) do
  redis.call('XADD', KEYS[1], '*', 'name', e[1], 'payload', e[2], 'at', e[3], 'id', e[4])
end
return redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
"""
# Both or neither: whoever was cut off before the answer came may send the same again.
_ADD_ONCE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
    'name', ARGV[3], 'payload', ARGV[4], 'at', ARGV[5], 'id', ARGV[6])
redis.call('SET', KEYS[2], '', 'EX', ARGV[2])
return 1
"""
SENT_TTL_S = 30 * 86_400
_encode_json = msgspec.json.Encoder().encode
_encode_batch = msgspec.msgpack.Encoder().encode

Entry = tuple[str, str, str, str]


class EventBus:
    """Collects events and sends them; when Redis is away, keeps the newest `keep` of them."""

    def __init__(self, redis: Redis, *, keep: int = KEEP_EVENTS) -> None:
        self.dropped = 0
        self._redis = redis
        self._waiting: deque[Entry] = deque()
        self._keep = keep
        self._add_all = redis.register_script(_ADD_ALL)
        self._add_once = redis.register_script(_ADD_ONCE)

    def publish(self, event: Event, at: float | None = None) -> None:
        """Queue one event that happened `at` (seconds since the epoch; now, if not given)."""
        self._queue([(event, time.time() if at is None else at)])

    async def publish_once(self, event: Event, *, event_id: str, at: float) -> bool:
        """Send one event at once; return False if it was sent under this id in the last 30 days.

        Raises RedisError where that is not known; then the same is to be sent again.
        """
        added = await self._add_once(
            keys=[redis_names.EVENTS_OUT, redis_names.EVENTS_SENT + event_id],
            args=[
                STREAM_LENGTH, SENT_TTL_S, NAMES[type(event)], _encode_json(event), _iso(at),
                event_id,
            ],
        )  # fmt: skip
        return bool(added)

    def publish_records(self, records: Sequence[RequestRecord]) -> None:
        """Queue what finished requests have to tell."""
        self._queue(
            [
                (event, record.created_at_us / 1e6 + record.response_time_ms / 1e3)
                for record in records
                for event in of_record(record)
            ]
        )

    def _queue(self, events: Sequence[tuple[Event, float]]) -> None:
        # One draw for all of them: uuid4 for each would be a quarter of what publishing costs.
        noise = os.urandom(16 * len(events)).hex()
        for number, (event, at) in enumerate(events):
            entry = (
                NAMES[type(event)],
                _encode_json(event).decode(),
                _iso(at),
                _uuid(noise[32 * number : 32 * number + 32]),
            )
            self._waiting.append(entry)
        while len(self._waiting) > self._keep:
            self._waiting.popleft()
            self.dropped += 1

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is queued until `stop` is set and nothing is left, or Redis is away then."""
        backoff = Backoff()
        while True:
            try:
                await self._send_all()
                if not backoff.fresh:
                    logger.warning("Redis takes events again; %d were dropped.", self.dropped)
                backoff.succeeded()
            except (RedisError, OSError) as exc:
                if backoff.fresh:
                    logger.warning("Events wait, Redis does not take them: %s", exc)
                if stop.is_set():
                    return
                await pause(stop, backoff.failed())
                continue
            if stop.is_set() and not self._waiting:
                return
            await pause(stop, IDLE_S)

    async def _send_all(self) -> None:
        while self._waiting:
            batch = list(islice(self._waiting, BATCH_EVENTS))
            await self._add_all(
                keys=[redis_names.EVENTS_OUT], args=[STREAM_LENGTH, _encode_batch(batch)]
            )
            self._remove(batch)

    def _remove(self, sent: Sequence[Entry]) -> None:
        """Take what was sent from the queue, some of which may have been dropped meanwhile."""
        ids = {entry[3] for entry in sent}
        while self._waiting and self._waiting[0][3] in ids:
            self._waiting.popleft()


def _uuid(noise: str) -> str:
    """Return a random UUID (version 4) made of 32 hexadecimal digits."""
    return f"{noise[:8]}-{noise[8:12]}-4{noise[13:16]}-a{noise[17:20]}-{noise[20:]}"


def _iso(at: float) -> str:
    whole = int(at)
    return f"{_iso_second(whole)}.{int((at - whole) * 1e6):06d}+00:00"


@lru_cache(maxsize=256)
def _iso_second(at: int) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")

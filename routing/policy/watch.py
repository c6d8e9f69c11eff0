"""Keeps a web worker's policy current: told through Redis, and polling in case nobody told.

Imports Django only when Redis does not have the policy.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable

import msgspec
import redis.asyncio
from redis.exceptions import RedisError

from routing.engine.catalog import PolicyDocument
from routing.policy import snapshot
from routing.policy.database import in_thread
from telemetry.redis_names import POLICY_CHANNEL, POLICY_SNAPSHOT, POLICY_VERSION

logger = logging.getLogger(__name__)

POLL_S = 2.0
TIMEOUT_S = 3.0
LISTEN_S = 1.0
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0

AWAY = (RedisError, OSError, TimeoutError)


class PolicyUnavailable(Exception):
    """Raised when neither Redis nor PostgreSQL has a policy to start with."""


class PolicyWatcher:
    """Finds the policy once, then delivers every newer version."""

    def __init__(self, redis_url: str, *, poll_s: float = POLL_S) -> None:
        self.version = -1
        self._redis_url = redis_url
        self._poll_s = poll_s
        self._redis_away = False

    async def initial(self) -> PolicyDocument:
        """Return the policy from Redis, else from PostgreSQL, else raise PolicyUnavailable."""
        try:
            async with self._client() as client:
                document = await _snapshot(client)
            missing = "has no usable policy"
        except AWAY as exc:
            document, missing = None, f"is away ({exc})"
        if document is None:
            document = await self._from_database(f"Redis {missing}")
        self.version = document.version
        return document

    async def _from_database(self, why: str) -> PolicyDocument:
        from django.db import DatabaseError

        from routing.policy.export import document_from_orm

        try:
            return await in_thread(document_from_orm)
        except DatabaseError as exc:
            reason = str(exc).strip().splitlines()[0]
            raise PolicyUnavailable(f"{why}, and PostgreSQL gives none: {reason}") from exc

    async def run(self, stop: asyncio.Event, on_change: Callable[[PolicyDocument], None]) -> None:
        """Deliver newer versions until `stop` is set. Outages are waited out, and logged once."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._listen(stop, on_change)),
                group.create_task(self._poll(on_change)),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _listen(
        self, stop: asyncio.Event, on_change: Callable[[PolicyDocument], None]
    ) -> None:
        backoff_s = FIRST_BACKOFF_S
        # Not by cancelling alone: redis-py's get_message takes some cancellations for its timeout.
        while not stop.is_set():
            try:
                async with self._client() as client, client.pubsub() as pubsub:
                    await pubsub.subscribe(POLICY_CHANNEL)
                    # After subscribing: a change in between is seen twice instead of never.
                    await self._refresh(client, on_change)
                    backoff_s = FIRST_BACKOFF_S
                    while not stop.is_set():
                        if await pubsub.get_message(
                            ignore_subscribe_messages=True, timeout=LISTEN_S
                        ):
                            await self._refresh(client, on_change)
            except AWAY:
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1))  # noqa: S311
                backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    async def _poll(self, on_change: Callable[[PolicyDocument], None]) -> None:
        async with self._client() as client:
            while True:
                await asyncio.sleep(self._poll_s)
                try:
                    found = await self._refresh(client, on_change)
                    self._note_redis(away=False)
                except AWAY as exc:
                    found = False
                    self._note_redis(away=True, reason=str(exc))
                if not found:
                    await self._refresh_from_database(on_change)

    async def _refresh(
        self, client: redis.asyncio.Redis, on_change: Callable[[PolicyDocument], None]
    ) -> bool:
        """Deliver what Redis has if it is newer; return whether Redis has a policy at all."""
        version = int(await client.get(POLICY_VERSION) or -1)
        if version <= self.version:
            return version >= 0
        document = await _snapshot(client)
        if document is not None:
            self._deliver(document, on_change)
        return document is not None

    async def _refresh_from_database(self, on_change: Callable[[PolicyDocument], None]) -> None:
        from django.db import DatabaseError

        from routing.policy.export import document_from_orm, policy_version

        # Both away: the worker goes on with what it has.
        with contextlib.suppress(DatabaseError):
            if await in_thread(policy_version) > self.version:
                self._deliver(await in_thread(document_from_orm), on_change)

    def _deliver(
        self, document: PolicyDocument, on_change: Callable[[PolicyDocument], None]
    ) -> None:
        if document.version > self.version:
            self.version = document.version
            on_change(document)

    def _note_redis(self, *, away: bool, reason: str = "") -> None:
        if away != self._redis_away:
            self._redis_away = away
            if away:
                logger.warning("Redis is away (%s); policy changes come from PostgreSQL.", reason)
            else:
                logger.info("Redis is back.")

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[redis.asyncio.Redis]:
        client = redis.asyncio.Redis.from_url(
            self._redis_url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        )
        try:
            yield client
        finally:
            await client.aclose()


async def _snapshot(client: redis.asyncio.Redis) -> PolicyDocument | None:
    """Return the snapshot; None where there is none, or one that this release cannot read."""
    raw = await client.get(POLICY_SNAPSHOT)
    if not isinstance(raw, bytes):
        return None
    try:
        return snapshot.decode(raw)
    except msgspec.DecodeError as exc:
        logger.warning("The policy in Redis is unreadable (%s); PostgreSQL's is used.", exc)
        return None

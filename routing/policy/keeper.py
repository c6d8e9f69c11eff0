"""A conductor's job: Redis has the stored policy, whatever wrote it and whatever was away."""

import asyncio
import contextlib
import logging

from django.db import DatabaseError
from redis.exceptions import RedisError

from routing.policy.database import in_thread
from routing.policy.publish import publish_if_behind

logger = logging.getLogger(__name__)

EVERY_S = 0.5


async def run(stop: asyncio.Event) -> None:
    """Publish what was written past Django or while Redis was away, until `stop` is set."""
    away = False
    while not stop.is_set():
        try:
            version = await in_thread(publish_if_behind)
        except (RedisError, DatabaseError) as exc:
            if not away:
                reason = str(exc).strip().partition("\n")[0]
                logger.warning("The policy cannot be published for now: %s", reason)
            away = True
        else:
            away = False
            if version is not None:
                logger.info("Published policy version %s.", version)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), EVERY_S)

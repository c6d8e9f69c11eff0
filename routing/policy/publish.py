"""Every committed change of the policy reaches Redis, and through it every worker.

The database counts versions (migration 0002). Saves publish right after their commit; what writes
past Django, and what could not be published at the time, the conductor's keeper makes up for.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connections, transaction
from django.db.models.signals import post_delete, post_save
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing.models import (
    ApiKey,
    Budget,
    ChainEntry,
    Endpoint,
    FallbackChain,
    HostCost,
    Model,
    Offering,
    PolicyVersion,
    Price,
    RoutingProfile,
    Savings,
    Tenant,
)
from routing.policy import snapshot
from routing.policy.export import document_from_orm, policy_version
from telemetry.redis_names import POLICY_VERSION

logger = logging.getLogger(__name__)

TABLES = (
    Model,
    Endpoint,
    Offering,
    FallbackChain,
    ChainEntry,
    RoutingProfile,
    Tenant,
    ApiKey,
    Price,
    HostCost,
    Budget,
    Savings,
)
CONNECT_TIMEOUT_S = 1.0
TIMEOUT_S = 3.0
# Any constant: what holds it is publishing.
ADVISORY_LOCK = 0x61692D6F72636801 & 0x7FFF_FFFF_FFFF_FFFF


def connect() -> None:
    """Publish after saves and deletions of every table of the policy."""
    for table in TABLES:
        post_save.connect(_saved, sender=table, dispatch_uid="routing.policy.publish")
        post_delete.connect(_saved, sender=table, dispatch_uid="routing.policy.publish")


def _saved(using: str, **_: Any) -> None:
    after_commit(using)


def after_commit(using: str) -> None:
    """Publish once when the current transaction commits; at once where there is none."""
    scheduled = connections[using].run_on_commit
    if not any(entry[1] is publish for entry in scheduled):
        transaction.on_commit(publish, using=using, robust=True)


def publish() -> int | None:
    """Write the stored policy to Redis; return its version, or None when that is not possible.

    Publishers take turns and each reads when its turn comes, so an older policy never overwrites
    a newer one.
    """
    try:
        with redis_client() as client, transaction.atomic():
            _take_turn()
            document = document_from_orm()
            snapshot.write(client, document)
    except (redis.RedisError, DatabaseError) as exc:
        reason = str(exc).strip().partition("\n")[0]
        logger.warning("The policy is saved but could not be published yet: %s", reason)
        return None
    return document.version


def publish_if_behind() -> int | None:
    """Publish where Redis does not have the stored version; return the version if it did.

    Raises redis.RedisError when Redis is away and DatabaseError when PostgreSQL is.
    """
    with redis_client() as client:
        # Redis first: what is published was committed before, so it cannot be ahead by a race.
        published = int(client.get(POLICY_VERSION) or 0)
    stored = policy_version()
    if published == stored:
        return None
    if published > stored:
        _overtake(published)
    return publish()


def _overtake(published: int) -> None:
    """Count on from what workers have seen: they take only newer versions."""
    logger.warning(
        "Redis has policy version %s, which is newer than the database's; was that restored from a"
        " backup? The database's policy is published as version %s.",
        published,
        published + 1,
    )
    PolicyVersion.objects.update_or_create(
        pk=PolicyVersion.ONLY, defaults={"version": published + 1}
    )


def _take_turn() -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])


@contextlib.contextmanager
def redis_client() -> Iterator[redis.Redis]:
    """A connection for one publication; fails fast, since somebody's save waits for it."""
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield client
    finally:
        client.close()

"""Closes circuit breakers on somebody's word, in every worker."""

import logging
from collections.abc import Iterable

from routing.coordination import breakers
from routing.policy.publish import redis_client

logger = logging.getLogger(__name__)


def reset_breakers(offerings: Iterable[str], by: str) -> list[str]:
    """Close the breakers of these offerings (`model@endpoint`) and return them, sorted.

    Workers hear of it within a second, whether their breakers were open or not. Raises RedisError
    where they cannot be told.
    """
    named = sorted(set(offerings))
    with redis_client() as client:
        breakers.reset(client, named, by)
    logger.info("Circuit breakers reset by %s: %s", by, ", ".join(named) or "none")
    return named

"""Fixtures of the policy's tests."""

from collections.abc import Iterator

import pytest
import redis


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    """The test run's Redis, emptied before the test."""
    with redis.Redis.from_url(redis_url) as client:
        yield client

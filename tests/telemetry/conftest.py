"""PostgreSQL and Redis as the conductor uses them: connections of its own, really committed."""

from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient
from redis.asyncio import Redis

from telemetry.database import AsyncConnection, connect


@pytest.fixture
async def database(transactional_db: None) -> AsyncIterator[AsyncConnection]:
    """A connection to the test database, whose tables are empty."""
    connection = await connect("tests")
    yield connection
    await connection.close()


@pytest.fixture
async def web(database: AsyncConnection) -> AsyncIterator[AsyncClient]:
    """A client of views that answer in parts, over the test database."""
    yield AsyncClient()
    # The views' thread has a connection of its own, which a server would pool.
    await sync_to_async(connections.close_all)()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The test run's Redis, emptied."""
    async with Redis.from_url(redis_url, socket_timeout=5) as client:
        yield client

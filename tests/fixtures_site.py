"""Fixtures of the engines and of the whole running service; `tests/conftest.py` loads them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from orchestra_site.embedded.postgres import Postgres
from orchestra_site.embedded.redis import Redis
from orchestra_site.home import Home
from tests import service

# The tests' data need not survive the machine.
CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, slots=True)
class EmbeddedEngines:
    """The test run's own PostgreSQL and Redis."""

    database_url: str
    redis_url: str


@pytest.fixture(scope="session")
def embedded_engines() -> Iterator[EmbeddedEngines]:
    """PostgreSQL and Redis of this test run, at the addresses that the settings name."""
    home = Home(Path(os.environ["ORCHESTRA_HOME"]))
    home.prepare()
    postgres, store = Postgres(home, settings=CARELESS), Redis(home)
    try:
        store.launch()
        postgres.start()
        store.wait_ready()
        yield EmbeddedEngines(postgres.url, store.url)
    finally:
        store.stop()
        postgres.stop()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(embedded_engines: EmbeddedEngines) -> None:
    """Tests that use the database start the engines; others do not wait for them."""


@pytest.fixture
def redis_url(embedded_engines: EmbeddedEngines) -> str:
    """The URL of the test run's Redis, emptied before the test."""
    connection = redis.Redis.from_url(embedded_engines.redis_url)
    connection.flushall()
    connection.close()
    return embedded_engines.redis_url


@pytest.fixture(scope="session")
def live_service() -> Iterator[service.LiveService]:
    """The whole service as a newcomer starts it, with the simulator, shared by the session."""
    home = Path(tempfile.mkdtemp(prefix="orchestra-live-"))
    try:
        with service.running(home, WEB_WORKERS="2") as live:
            yield live
    finally:
        shutil.rmtree(home, ignore_errors=True)

"""A simulator to pay for, and the tables that say what was paid."""

import pytest

from tests.cast import CATALOGUE
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.telemetry.conftest import database, redis

__all__ = ["database", "host", "redis"]


@pytest.fixture
def host(start_simulator: StartSimulator) -> SimulatedHost:
    """A simulator that answers at once."""
    return start_simulator(CATALOGUE, instant=True)

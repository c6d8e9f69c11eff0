"""A stage for each test, with the simulator behind it where something has to answer."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cast import ALPHA, BETA, CATALOGUE, CHAIN, VECTORS, document
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.stage import SetStage, Stage, at, staged


@pytest.fixture
def host(start_simulator: StartSimulator) -> SimulatedHost:
    """A simulator that answers at once."""
    return start_simulator(CATALOGUE, instant=True)


@pytest.fixture
async def set_stage(tmp_path: Path) -> AsyncIterator[SetStage]:
    """Return a function that sets stages: await set_stage(policy, …)."""
    async with AsyncExitStack() as stack:

        async def start(policy: Any = None, **more: Any) -> Stage:
            return await stack.enter_async_context(staged(tmp_path / "spool", policy, **more))

        yield start


@pytest.fixture
async def stage(set_stage: SetStage, host: SimulatedHost) -> Stage:
    """Three models at a simulator, spoken to in Ollama's protocol."""
    made: Stage = await set_stage(
        document((ALPHA, BETA, VECTORS), (at(host.url),), chains=(CHAIN,))
    )
    return made


@pytest.fixture
async def quiet_stage(set_stage: SetStage) -> Stage:
    """The usual cast at endpoints that nobody serves: for what calls nobody."""
    made: Stage = await set_stage()
    return made

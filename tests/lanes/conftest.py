"""A stage for each test, with the simulator behind it where something has to answer."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from routing.engine.catalog import ChainSpec
from routing.simulator.models import Catalogue, HostSpec, Model
from tests.cast import document, model
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.stage import SetStage, Stage, at, staged

# The simulated models: two that chat, one that embeds.
ALPHA = model("alpha:1b", "high")
BETA = model("beta:1b", "good")
VECTORS = model("vectors:1b", "good", capabilities=("embedding",))
CHAIN = ChainSpec(name="after-alpha", models=("beta:1b",), for_model="alpha:1b")


def simulated(name: str, *capabilities: str) -> Model:
    return Model(
        name=name,
        size_gb=1,
        load_time_s=0,
        slots=100,
        answer_tokens=8,
        embedding_length=64,
        blocks=1,
        heads=2,
        kv_heads=1,
        capabilities=capabilities,
    )


CATALOGUE = Catalogue(
    host=HostSpec(keep_alive_s=-1),
    models=(
        simulated("alpha:1b", "completion", "tools"),
        simulated("beta:1b", "completion", "tools"),
        simulated("vectors:1b", "embedding"),
    ),
)


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

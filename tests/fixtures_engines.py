"""Fixtures shared by every test that needs an inference engine; `tests/conftest.py` loads them."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from routing.simulator.course import Simulator
from routing.simulator.models import Catalogue, preset
from routing.simulator.server import Background
from tests.engines import Engine, running_llama_server


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A real llama.cpp server with a tiny model, shared by the whole session."""
    with running_llama_server(tmp_path_factory.mktemp("llama")) as engine:
        yield engine


@dataclass(frozen=True, slots=True)
class SimulatedHost:
    """A running simulator: `url` has no trailing slash; `http` takes paths below it."""

    url: str
    sim: Simulator
    http: httpx.Client

    def fail(self, kind: str, **rule: Any) -> None:
        """Switch one fault on, in place of any other."""
        faults = {"faults": [{"kind": kind, **rule}]}
        self.http.put("/_sim/faults", json=faults).raise_for_status()

    def recover(self) -> None:
        self.http.delete("/_sim/faults").raise_for_status()

    def state(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get("/_sim/state").json()
        return answer


# Made once: reading the certificates takes longer than most of these tests.
TLS = httpx.create_ssl_context()
StartSimulator = Callable[..., SimulatedHost]


@pytest.fixture(scope="session")
def stopping_simulators() -> Iterator[list[Background]]:
    """Those whose test is over; stopping takes 0.2 s, which no test need wait for."""
    stopping: list[Background] = []
    yield stopping
    for background in stopping:
        background.join()


@pytest.fixture
def start_simulator(stopping_simulators: list[Background]) -> Iterator[StartSimulator]:
    """Return a function that starts simulators: start(catalogue, speed=…, instant=…)."""
    mine: list[Background] = []
    clients = contextlib.ExitStack()

    def start(catalogue: Catalogue | None = None, **options: Any) -> SimulatedHost:
        sim = Simulator(catalogue or preset("ollama"), **options)
        mine.append(Background(sim))
        client = httpx.Client(base_url=mine[-1].url, timeout=5, verify=TLS)
        return SimulatedHost(mine[-1].url, sim, clients.enter_context(client))

    with clients:
        yield start
    for background in mine:
        background.stop()
    stopping_simulators.extend(mine)


@pytest.fixture
def simulator(start_simulator: StartSimulator) -> SimulatedHost:
    """The usual Ollama models, a hundred times as fast as life."""
    return start_simulator(speed=100)

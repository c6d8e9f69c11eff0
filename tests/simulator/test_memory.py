"""`--allocate`: models really take memory, and past the limit the process dies of it."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from routing.simulator import limits
from routing.simulator.models import Catalogue, HostSpec
from tests.fixtures_engines import TLS, StartSimulator
from tests.simulator.cast import shaped

ROOT = Path(__file__).parents[2]
LIMIT_MB = 60
MB = 10**6
# A hundredth of every size is allocated: 20 and 30 MB, with the surcharge.
SMALL = shaped("small:1b", 1.2, load_s=0.05, per_s=2000, answer=3)
LARGE = shaped("large:1b", 2.2, load_s=0.05, per_s=2000, answer=3)
GREEDY = msgspec.structs.replace(LARGE, name="greedy:1b", real_factor=2.0)
SWELLING = msgspec.structs.replace(SMALL, name="swelling:1b", growth_mb_per_1k_tokens=6000)
CATALOGUE = Catalogue(
    host=HostSpec(memory_gb=100, max_loaded=9, scale=0.01), models=(SMALL, LARGE, GREEDY, SWELLING)
)

Enforced = pytest.mark.parametrize("by", ["cgroup", "rlimit"])


class Machine:
    """A simulator with its own limit, in a process that may die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "No memory control group" in line:
            pytest.skip(line.strip())
        self.process = process
        url = line.split(" on ")[1].split(": ")[0]
        self.http = httpx.Client(base_url=url, timeout=5, verify=TLS)

    def load(self, model: str, **more: Any) -> dict[str, Any]:
        answer = self.http.post("/api/generate", json={"model": model, **more})
        return dict(answer.json())

    def memory(self) -> dict[str, Any]:
        return dict(self.http.get("/_sim/state").json()["memory"])

    def used_mb(self) -> float:
        return float(self.memory()["used_bytes"] / MB)


StartMachine = Callable[[str], Machine]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartMachine]:
    processes: list[subprocess.Popen[str]] = []
    clients = contextlib.ExitStack()
    models = tmp_path / "models.json"
    models.write_bytes(msgspec.json.encode(CATALOGUE))

    def run(by: str) -> Machine:
        command = [sys.executable, "-m", "routing.simulator", "--port", "0", "--models"]
        command += [str(models), "--allocate", "--memory-limit-mb", str(LIMIT_MB), "--limit-by", by]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        machine = Machine(processes[-1])
        clients.enter_context(machine.http)
        return machine

    with clients:
        yield run
    for process in processes:
        process.kill()
        process.communicate()
    limits.sweep()


@Enforced
def test_a_loaded_model_occupies_real_memory_until_it_is_unloaded(
    start: StartMachine, by: str
) -> None:
    machine = start(by)
    before = machine.used_mb()
    machine.load("small:1b")
    assert machine.used_mb() - before == pytest.approx(20, abs=3)
    machine.load("small:1b", keep_alive=0)
    assert machine.used_mb() - before < 3


@Enforced
def test_a_load_past_the_limit_is_death_without_an_answer(start: StartMachine, by: str) -> None:
    machine = start(by)
    machine.load("small:1b")
    machine.load("large:1b")
    # By the engine's own reckoning there is room for ten times as much.
    with pytest.raises(httpx.TransportError):
        machine.load("greedy:1b")
    assert machine.process.wait(10) == -signal.SIGKILL


def test_a_prompt_occupies_memory_while_it_is_worked_on(start: StartMachine) -> None:
    machine = start("rlimit")
    machine.load("swelling:1b", prompt="a" * 100, stream=False)
    assert machine.used_mb() < 30
    with pytest.raises(httpx.TransportError):
        machine.load("swelling:1b", prompt="a" * 4000, stream=False)
    assert machine.process.wait(10) == -signal.SIGKILL


def test_a_neighbour_takes_memory_of_the_same_machine(start: StartMachine) -> None:
    machine = start("rlimit")
    told = machine.http.put("/_sim/memory", json={"other_mb": 25}).json()["memory"]
    assert told["other_bytes"] == 25 * MB
    assert machine.used_mb() == pytest.approx(25, abs=3)
    machine.http.put("/_sim/memory", json={"other_mb": 5})
    assert machine.used_mb() == pytest.approx(5, abs=3)


def test_the_state_tells_the_truth_that_the_protocol_does_not(start: StartMachine) -> None:
    machine = start("rlimit")
    memory = machine.memory()
    assert memory["limit_bytes"] == LIMIT_MB * MB
    assert (memory["enforced_by"], memory["scale"]) == ("rlimit", 0.01)
    assert machine.http.get("/_sim/state").json()["memory_bytes"] == 100 * 10**9


def test_without_memory_there_is_no_neighbour(start_simulator: StartSimulator) -> None:
    simulator = start_simulator(CATALOGUE, instant=True)
    assert simulator.state()["memory"] is None
    answer = simulator.http.put("/_sim/memory", json={"other_mb": 5})
    assert answer.status_code == 400
    assert "--allocate" in answer.text

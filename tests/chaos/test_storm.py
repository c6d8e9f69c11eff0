"""The storm leaves somebody to answer: what else it did to callers would be its own fault."""

import signal
import time
from pathlib import Path
from typing import Any

from tests.chaos.engine import Engine
from tests.chaos.storm import KINDS, Storm

RESTED_S = 0.1


class Paper(Engine):
    """An engine without a process, which looks at its fleet whenever something befalls it."""

    def __init__(self, name: str, fleet: list["Paper"]) -> None:
        super().__init__(name, Path("/nonexistent"), [])
        self.fleet = fleet
        self.well_since = 0.0  # infinite while in trouble
        self.alone = 0
        fleet.append(self)

    def befalls(self) -> None:
        self.well_since = float("inf")
        rested = time.monotonic() - RESTED_S
        self.alone += not any(engine.well_since <= rested for engine in self.fleet)

    def recovers(self) -> None:
        self.well_since = time.monotonic()

    def kill(self) -> None:
        self.befalls()

    def wait_ready(self) -> None:
        self.recovers()

    def start(self) -> None:
        pass

    def signal(self, number: signal.Signals) -> None:
        self.befalls() if number == signal.SIGSTOP else self.recovers()

    def faults(self, rules: list[dict[str, Any]]) -> None:
        self.befalls() if rules else self.recovers()

    def state(self, limit_s: float = 1.0) -> dict[str, Any]:
        return {"loaded": []}


async def test_one_engine_is_always_well_and_rested_and_all_are_in_the_end() -> None:
    fleet: list[Paper] = []
    for name in "abcd":
        Paper(name, fleet)
    storm = Storm(fleet, seed=1, longest_s=0.04, rested_s=RESTED_S)
    await storm.rage(2.5)
    assert set(storm.befell) == set(KINDS)
    assert sum(engine.alone for engine in fleet) == 0
    assert all(engine.well_since < float("inf") for engine in fleet)

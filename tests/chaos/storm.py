"""Trouble for inference servers, drawn by lot, while at least one of them stays fit."""

import asyncio
import math
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.chaos.engine import Engine

# What a simulator in trouble does; `kill` and `stall` befall its whole process instead.
RULES: dict[str, dict[str, Any]] = {
    "slow": {"kind": "delay", "delay_ms": 3000},
    "reset": {"kind": "reset"},
    "reset inside": {"kind": "reset", "after_tokens": 5},
    "error line": {"kind": "error_line", "after_tokens": 4},
    "error at once": {"kind": "error_line"},
    "cut stream": {"kind": "cut", "after_tokens": 6},
    "silence": {"kind": "silence"},
    "silence inside": {"kind": "silence", "after_tokens": 3},
    "html in 200": {"kind": "html", "status": 200, "path": "*"},
    "html in 502": {"kind": "html", "status": 502},
    "short body": {"kind": "short_body", "after_tokens": 5},
    "half json": {"kind": "malformed_json", "after_tokens": 5},
    "no end": {"kind": "no_end"},
    "overloaded": {"kind": "http_error", "status": 503, "retry_after_s": 1},
    "broken": {"kind": "http_error", "status": 500},
}
KINDS = ("kill", "stall", *RULES)
SHARES = (0.5, 1.0)  # of the requests that a fault strikes


class Storm:
    """Troubles these engines while at least one of them is well, and has been for `rested_s`.

    Nobody who has seen an engine fail seeks it out in the moment that it recovers; with `rested_s`
    at 0 even that is asked of the service.
    """

    def __init__(
        self, engines: Sequence[Engine], seed: int, *, longest_s: float, rested_s: float
    ) -> None:
        self.befell: Counter[str] = Counter()
        self._engines = list(engines)
        self._rested_s = rested_s
        # Since when each engine that is not in trouble has been well.
        self._well_since = dict.fromkeys(range(len(engines)), -math.inf)
        self._dice = random.Random(seed)  # noqa: S311 - repeatable trouble
        self._longest_s = longest_s
        # Every kind comes up before any comes up again, however short the run.
        self._next: list[str] = []

    async def rage(self, seconds: float) -> None:
        """Go on for so long; all engines are fit when this returns."""
        deadline = time.monotonic() + seconds
        async with asyncio.TaskGroup() as troubles:
            while time.monotonic() < deadline:
                if victims := self._victims():
                    victim = await self._choose(victims)
                    del self._well_since[victim]
                    length_s = self._dice.uniform(0.2, 1) * self._longest_s
                    troubles.create_task(self._trouble(victim, self._draw(), length_s))
                await asyncio.sleep(self._dice.uniform(0.1, 0.5) * self._longest_s)

    def _victims(self) -> list[int]:
        """Return the engines whose trouble would leave another one that is well and rested."""
        latest = time.monotonic() - self._rested_s
        rested = {engine for engine, since in self._well_since.items() if since <= latest}
        return [engine for engine in self._well_since if rested - {engine}]

    async def _choose(self, victims: list[int]) -> int:
        """Return the busiest every other time: trouble where nobody is bothers nobody."""
        if self._dice.random() < 0.5:
            return self._dice.choice(victims)
        states = [await asyncio.to_thread(self._engines[victim].state) for victim in victims]
        busy = [sum(each["active"] for each in state["loaded"]) if state else 0 for state in states]
        return victims[busy.index(max(busy))]

    def _draw(self) -> str:
        if not self._next:
            self._next = self._dice.sample(KINDS, len(KINDS))
        return self._next.pop()

    async def _trouble(self, victim: int, kind: str, length_s: float) -> None:
        engine = self._engines[victim]
        self.befell[kind] += 1
        if kind == "kill":
            engine.kill()
            await asyncio.sleep(length_s)
            engine.start()
            await asyncio.to_thread(engine.wait_ready)
        elif kind == "stall":
            engine.signal(signal.SIGSTOP)
            await asyncio.sleep(length_s)
            engine.signal(signal.SIGCONT)
        else:
            rule = RULES[kind] | {"probability": self._dice.choice(SHARES)}
            await asyncio.to_thread(engine.faults, [rule])
            await asyncio.sleep(length_s)
            await asyncio.to_thread(engine.faults, [])
        self._well_since[victim] = time.monotonic()

"""The out-of-memory test: the same requests to the first available model, and to the orchestra.

    python -m benchmarks.oom [--data azure_llm_2023.csv.gz] [--seconds N]

The engine believes in more memory than its machine has, its loads take more than it predicts, and
a neighbour takes some for a while: what kills real ones. Killed, it is restarted. The orchestra
is told the machine's memory by a stand-in for the agent, and nothing else.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import client, machine
from tests.chaos.arrivals import KINDS, Arrival
from tests.chaos.house import House, house
from tests.chaos.machine import Machine

PATIENCE_S = 30.0  # how long a caller waits
RETRY_AFTER_S = (0.5, 1.0)  # as OpenAI's own client does, without its jitter
NEIGHBOUR_MB = 6.0  # 0.6 GB of the simulated machine
NEIGHBOUR_FROM, NEIGHBOUR_UNTIL = 0.4, 0.7  # of the run
CHARS_PER_TOKEN = 4
# The kinds of work that each model of the preset `oom` was made for.
MADE_FOR = {
    "llama3.2:3b": ("completion",),
    "qwen2.5-coder:7b": ("completion", "code"),
    "deepseek-r1:7b": ("completion", "reasoning"),
    "mistral:7b": ("completion", "analysis"),
    "qwen2.5:14b": KINDS,
}
# What the orchestra is told about the same kinds of work.
ASKED: dict[str, tuple[str, str]] = {
    "completion": ("completion", "simple"),
    "code": ("code", "moderate"),
    "reasoning": ("reasoning", "moderate"),
    "analysis": ("analysis", "moderate"),
    "complex": ("completion", "complex"),
}

Ask = Callable[[Arrival, str], Awaitable[bool]]


@dataclass(slots=True)
class Outcome:
    """What became of all requests on one side of the comparison."""

    side: str
    deaths: int = 0
    served: int = 0
    failed: int = 0
    took_s: list[float] = field(default_factory=list)
    most_used: float = 0.0
    loads: int = 0
    enforced_by: str = ""

    def percentile_ms(self, share: float) -> int:
        """Return how long served requests took, at this percentile."""
        if not self.took_s:
            return 0
        return round(1000 * sorted(self.took_s)[int(share * (len(self.took_s) - 1))])


async def compare(
    arrivals: Sequence[Arrival],
    folder: Path,
    *,
    speed: float = 1.0,
    enforced_by: str | None = None,
) -> tuple[Outcome, Outcome]:
    """Return what the same arrivals come to without the orchestra, and with it."""
    async with machine.running("plain", folder, enforced_by=enforced_by, speed=speed) as box:
        first = Outcome("first available model")
        await _replay(arrivals, _first_available(box), box, first)
    async with machine.running("box", folder, enforced_by=enforced_by, speed=speed) as box:
        ours = Outcome("orchestra")
        with house(folder / "home") as home:
            async with box.reported(home.redis_url):
                await _introduce(home, box, folder)
                await _replay(arrivals, _orchestra(home), box, ours)
    return first, ours


async def _introduce(home: House, box: Machine, folder: Path) -> None:
    """Make the machine's engine the only endpoint; its models are found by discovery."""
    endpoint = {
        "name": "box",
        "provider": "ollama",
        "base_url": box.engine.url,
        "host": machine.HOST,
        "simulated": True,
    }
    # In a thread: the machine goes on reporting meanwhile.
    policy = {"prune": True, "models": [], "offerings": [], "chains": [], "endpoints": [endpoint]}
    await asyncio.to_thread(home.apply, policy, folder / "oom.yaml")
    await home.wait_routable([_wish(kind) for kind in KINDS])


async def _replay(arrivals: Sequence[Arrival], ask: Ask, box: Machine, outcome: Outcome) -> None:
    length_s = arrivals[-1].at_s
    async with box.tended():
        began = time.monotonic()
        neighbour = asyncio.create_task(_neighbour(box, length_s))
        async with asyncio.TaskGroup() as callers:
            for number, arrival in enumerate(arrivals):
                await asyncio.sleep(max(0.0, began + arrival.at_s - time.monotonic()))
                callers.create_task(_one(arrival, f"{number:06}", ask, outcome))
        neighbour.cancel()
        # A death in the last moment counts too.
        await asyncio.sleep(0.2)
    outcome.deaths = box.engine.deaths
    outcome.most_used, outcome.loads = box.most_used, box.loads
    outcome.enforced_by = box.enforced_by


async def _neighbour(box: Machine, length_s: float) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(NEIGHBOUR_FROM * length_s)
        box.neighbour_mb = NEIGHBOUR_MB
        await asyncio.sleep((NEIGHBOUR_UNTIL - NEIGHBOUR_FROM) * length_s)
        box.neighbour_mb = 0.0


async def _one(arrival: Arrival, name: str, ask: Ask, outcome: Outcome) -> None:
    began = time.monotonic()
    prompt = f"{name} {'word' * arrival.prompt_tokens}"[: arrival.prompt_tokens * CHARS_PER_TOKEN]
    for wait_s in (0.0, *RETRY_AFTER_S):
        await asyncio.sleep(wait_s)
        if await ask(arrival, prompt):
            outcome.served += 1
            outcome.took_s.append(time.monotonic() - began)
            return
    outcome.failed += 1


def _first_available(box: Machine) -> Ask:
    """Ask the engine itself for the first model that can do it."""
    models = {kind: _first_for(kind) for kind in KINDS}

    async def ask(arrival: Arrival, prompt: str) -> bool:
        body = {
            "model": models[arrival.kind],
            "prompt": prompt,
            "stream": False,
            "options": {"num_predict": arrival.answer_tokens, "temperature": 0},
        }
        seen = await client.post(f"{box.engine.url}/api/generate", body, PATIENCE_S)
        return seen.status == 200 and seen.whole and (seen.json() or {}).get("done") is True

    return ask


def _first_for(kind: str) -> str:
    return next(model for model, kinds in MADE_FOR.items() if kind in kinds)


def _orchestra(home: House) -> Ask:
    async def ask(arrival: Arrival, prompt: str) -> bool:
        body = _wish(arrival.kind)
        body["prompt"] = prompt
        body["requirements"] |= {"maxTokens": arrival.answer_tokens, "temperature": 0}
        seen = await client.post(f"{home.url}/api/v1/ai/route-request", body, PATIENCE_S)
        return seen.status == 200 and seen.whole and bool((seen.json() or {}).get("response"))

    return ask


def _wish(kind: str) -> dict[str, Any]:
    task, complexity = ASKED[kind]
    return {"taskType": task, "requirements": {"complexity": complexity}}

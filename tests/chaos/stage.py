"""The fleet that the chaos tests play with: four endpoints in two protocols, with two models."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from routing.simulator.models import Catalogue, HostSpec, Model
from tests.chaos.engine import Engine, engines
from tests.chaos.house import House, house

OLLAMAS, OPENAIS = ("ollama-1", "ollama-2"), ("openai-1", "openai-2")
SELECT = {"taskType": "completion"}
CHAT = ["completion", "reasoning", "analysis"]


def simulated(name: str) -> Model:
    """Return a model that is always loaded and never busy; how much it says varies."""
    return Model(
        name=name,
        size_gb=1,
        load_time_s=0,
        slots=500,
        tokens_per_s=200,
        prompt_tokens_per_s=1_000_000,
        blocks=1,
        embedding_length=64,
        heads=2,
        kv_heads=1,
        capabilities=("completion", "tools"),
    )


MODELS = {name: simulated(name) for name in ("alpha:1b", "beta:1b")}


def policy(servers: Sequence[Engine], deadline_ms: int) -> dict[str, Any]:
    """Return a policy file with both models at every server and nothing else."""
    endpoints = [
        {
            "name": server.name,
            "provider": server.name.split("-")[0],
            "base_url": server.url + ("/v1" if server.name in OPENAIS else ""),
            "simulated": True,
        }
        for server in servers
    ]
    free = {"cost_per_1k_input_usd": 0, "cost_per_1k_output_usd": 0}
    models = [
        {"name": name, "capabilities": CHAT, "quality_tier": "good", "speed": "fast", **free}
        for name in MODELS
    ]
    offerings = [{"model": m, "endpoint": server.name} for m in MODELS for server in servers]
    weights = {"quality": 4, "cost": 3, "latency": 2, "memory": 2, "success": 3}
    profile = {f"{name}_weight": weight for name, weight in weights.items()}
    return {
        "prune": True,
        "models": models,
        "endpoints": endpoints,
        "offerings": offerings,
        "chains": [],
        "profiles": [{"priority": "normal", "deadline_ms": deadline_ms, **profile}],
    }


@contextlib.asynccontextmanager
async def playing(
    folder: Path, deadline_ms: int, **settings: str
) -> AsyncIterator[tuple[House, list[Engine]]]:
    """Run the service with its four endpoints until the block ends."""
    file = folder / "models.json"
    catalogue = Catalogue(host=HostSpec(keep_alive_s=-1), models=tuple(MODELS.values()))
    file.write_bytes(msgspec.json.encode(catalogue))
    with (
        engines([*OLLAMAS, *OPENAIS], folder, ["--models", str(file)]) as servers,
        house(folder / "home", **settings) as home,
    ):
        rules = policy(servers, deadline_ms)
        await asyncio.to_thread(home.apply, rules, folder / "policy.json")
        await home.wait_routable([SELECT])
        yield home, servers

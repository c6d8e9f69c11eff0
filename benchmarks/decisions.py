"""What a decision costs, by the number of offerings; in this process, without HTTP."""

import random
import time
from decimal import Decimal
from statistics import median
from typing import Any

from routing.engine.catalog import (
    QUALITY_TIERS,
    TASK_TYPES,
    EndpointSpec,
    ModelSpec,
    OfferingSpec,
    PolicyDocument,
)
from routing.engine.decide import decide
from routing.engine.need import Need
from routing.engine.policy import Policy
from routing.engine.state import FleetState

SIZES = (50, 1_000, 10_000)
PRIORITIES = ("low", "normal", "high", "critical")
ENDPOINTS = 10
DECISIONS = 500
ROUNDS = 5


def document(size: int) -> PolicyDocument:
    """Return a policy of `size` offerings, different in everything that is scored."""
    dice = random.Random(size)  # noqa: S311  the same policy in every run
    endpoints = tuple(
        EndpointSpec(
            name=f"endpoint-{i}",
            provider="openai",
            base_url="http://127.0.0.1:9",
            host="local" if i % 2 else "",
        )
        for i in range(ENDPOINTS)
    )
    models = tuple(_model(dice, i) for i in range(size))
    offerings = tuple(
        OfferingSpec(model=m.name, endpoint=endpoints[i % ENDPOINTS].name)
        for i, m in enumerate(models)
    )
    return PolicyDocument(models=models, endpoints=endpoints, offerings=offerings)


def _model(dice: random.Random, number: int) -> ModelSpec:
    price = Decimal(dice.randrange(1, 10_000)) / 1_000_000
    return ModelSpec(
        name=f"model-{number}",
        capabilities=tuple(dice.sample(TASK_TYPES, 3)),
        quality_tier=dice.choice(QUALITY_TIERS),
        speed=dice.choice(("fast", "medium", "slow")),
        ram_required_gb=round(dice.uniform(1, 40), 1),
        context_length=8192,
        cost_per_1k_input_usd=price,
        cost_per_1k_output_usd=3 * price,
    )


def measure() -> list[dict[str, Any]]:
    """Return a row a size: compile time in ms, and µs a decision for each priority."""
    return [_measure(size) for size in SIZES]


def _measure(size: int) -> dict[str, Any]:
    doc = document(size)
    started = time.perf_counter()
    policy = Policy(doc)
    compile_ms = (time.perf_counter() - started) * 1000
    state = FleetState()
    state.bind(policy)
    host = state.host("local")
    host.known, host.available_gb, host.total_gb = True, 16.0, 24.0
    row: dict[str, Any] = {"offerings": size, "compile_ms": round(compile_ms, 1)}
    for priority in PRIORITIES:
        row[f"{priority}_us"] = round(_decision_us(policy, state, priority), 1)
    return row


def _decision_us(policy: Policy, state: FleetState, priority: str) -> float:
    need = Need(task="code", priority=priority, floor=1, prompt_tokens=200, max_tokens=200)
    decide(policy, state, need, 0.0)
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(DECISIONS):
            decide(policy, state, need, 0.0)
        rounds.append((time.perf_counter() - started) / DECISIONS * 1e6)
    return median(rounds)

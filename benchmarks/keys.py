"""What it costs to tell whose API key a request came with; in this process, without HTTP."""

import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any

from routing.engine.catalog import KeySpec, PolicyDocument, TenantSpec
from routing.engine.errors import Unidentified
from routing.engine.policy import Policy
from routing.lanes.doorkeeper import Doorkeeper
from routing.policy import tokens

SIZES = (10, 1_000, 10_000)
CHECKS = 2_000
ROUNDS = 9


def measure() -> list[dict[str, Any]]:
    """Return a row a number of keys: CPU time to compile in ms, and µs a check by what is sent."""
    return [_measure(size) for size in SIZES]


def _measure(size: int) -> dict[str, Any]:
    secret = tokens.digest_key("benchmark" * 4)
    minted = [tokens.mint("bench", secret) for _ in range(size)]
    document = PolicyDocument(
        tenants=(TenantSpec(name="bench"),),
        keys=tuple(
            KeySpec(name=f"k{i}", tenant="bench", prefix=m.prefix, digest=m.digest)
            for i, m in enumerate(minted)
        ),
    )
    started = time.thread_time()
    policy = Policy(document)
    compile_ms = (time.thread_time() - started) * 1000
    valid = f"Bearer {minted[0].token}"
    return {
        "keys": size,
        "compile_ms": round(compile_ms, 1),
        "seen_before_us": round(_check_us(policy, secret, lambda: valid.encode()), 2),
        "not_seen_before_us": round(
            _check_us(policy, secret, lambda: valid.encode(), fresh=True), 2
        ),
        "unknown_us": round(_check_us(policy, secret, lambda: f"{valid}x".encode()), 2),
    }


def _check_us(
    policy: Policy, secret: bytes, sent: Callable[[], bytes], *, fresh: bool = False
) -> float:
    """Return CPU µs a check. The header is other bytes each time, as a server hands it over."""
    rounds = []
    for _ in range(ROUNDS):
        keepers = [Doorkeeper(secret, required=True) for _ in range(CHECKS if fresh else 1)]
        headers = [sent() for _ in range(CHECKS)]
        keepers *= CHECKS // len(keepers)
        started = time.thread_time()
        for keeper, header in zip(keepers, headers, strict=True):
            with suppress(Unidentified):
                keeper.caller(policy, header)
        rounds.append((time.thread_time() - started) / CHECKS * 1e6)
    return median(rounds)

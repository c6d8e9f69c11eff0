"""What a request says about waiting, and what it is told of it."""

import asyncio

from routing.engine.decide import Decision
from routing.engine.errors import NoCandidate
from routing.lanes.exchange import Exchange
from routing.lanes.job import Trail
from routing.lanes.revival import MOST_ROUNDS, revived
from routing.lanes.runtime import Runtime

# Why everybody refused may be over soon for these reasons only.
PASSING = "breaker_open"


def longest_wait_s(runtime: Runtime, priority: str, asked_ms: int | None) -> float:
    """Return how long a request may wait for a place: what it asks, or what its profile says."""
    if asked_ms is None:
        asked_ms = runtime.policy.profiles[priority].max_wait_ms
    return asked_ms / 1000


async def decide_in_time(runtime: Runtime, exchange: Exchange, asked_ms: int | None) -> Decision:
    """Return the decision; who asked to wait waits for the soonest breaker to let calls through.

    Where breakers leave nobody to ask, one is tried before its time, unless it is only a choice.

    The one way to a decision, so this is where a caller's limits are heeded. Raises RateLimited,
    and as `engine.decide` does; without asking, at once.
    """
    need = exchange.need
    tokens = exchange.taken_tokens = exchange.tokens_to_take()
    exchange.toll = await runtime.tolls.enter(need.tenant, need.key, tokens, stream=exchange.stream)
    began = runtime.clock()
    end = began + (asked_ms or 0) / 1000
    deadline = began + runtime.policy.profiles[need.priority].deadline_ms / 1000
    rounds = 0 if exchange.kind == "select" else MOST_ROUNDS
    while True:
        try:
            return exchange.decide()
        except NoCandidate as exc:
            if not any(r.reason == PASSING for r in exc.rejections):
                raise
            rounds -= 1
            if rounds >= 0 and await revived(runtime, exchange.need, deadline):
                continue
            wait_s = exc.retry_after_s
            if wait_s is None:
                raise
            if runtime.clock() + wait_s > end or runtime.clock() >= end:
                raise
            # An opening that ends now may still have its probe out: look again a little later.
            await asyncio.sleep(max(wait_s, 0.05))


def queue_headers(trail: Trail) -> dict[str, str]:
    """Return the headers that tell a caller it waited, or waits; none if it did not."""
    if not trail.queue_position:
        return {}
    told = {"x-orchestra-queue-position": str(trail.queue_position)}
    if trail.waiting is None:
        told["x-orchestra-queued-ms"] = str(trail.queued_ms)
    return told

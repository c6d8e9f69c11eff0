"""When breakers leave nobody to ask: one of them is tried before its time is up.

Failing fast is right while somebody else answers. Where nobody does, the request that would be
refused is the probe that finds out who is well again; the others wait for its outcome, a moment.
"""

import asyncio

from routing.engine.errors import ConnectFailed, UpstreamBusy
from routing.engine.need import Need, is_able, is_allowed
from routing.engine.policy import Candidate
from routing.engine.refusal import rejection
from routing.engine.state import OfferingState
from routing.lanes.runtime import Runtime

OPEN = "breaker_open"
WAIT_S = 2.0
LOOK_EVERY_S = 0.05
# Each asks everybody who is left once more.
MOST_ROUNDS = 3


async def revived(runtime: Runtime, need: Need, deadline: float) -> bool:
    """Return True once somebody may be asked; False if nobody can be hoped for.

    `deadline` is the request's, on the runtime's clock: the wait does not outlast it.
    """
    end = min(runtime.clock() + WAIT_S, deadline)
    while True:
        now = runtime.clock()
        able = _able(runtime, need)
        refused = [(rejection(c, live, need, now), live) for c, live in able]
        if any(not reason for reason, _ in refused):
            return True
        shut = [live for reason, live in refused if reason == OPEN]
        if _hasten(runtime, shut, now):
            return True
        if now >= end or not any(live.breaker.is_tried(now) for live in shut):
            return False
        await asyncio.sleep(LOOK_EVERY_S)


def _able(runtime: Runtime, need: Need) -> list[tuple[Candidate, OfferingState]]:
    policy = runtime.policy
    candidates = policy.candidates
    if need.model is not None:
        name = policy.find_model(need.model) or ""
        names = (name, *policy.chain_for(name, need.task))
        candidates = [c for model in names for c in policy.by_model.get(model, ())]
    live = runtime.state.live
    return [
        (c, live[c.index])
        for c in candidates
        if is_able(c, need) and is_allowed(c.model_name, need)
    ]


def _hasten(runtime: Runtime, shut: list[OfferingState], now: float) -> bool:
    """Let the one that has been open for longest be tried now; False if none may be."""
    for live in sorted(shut, key=lambda live: (live.breaker.opened_at, live.id)):
        breaker = live.breaker
        # Heard from another worker, a time that the upstream named is known by its reason.
        if breaker.reason != UpstreamBusy.code and breaker.hasten(now):
            runtime.breaker_changed(live, breaker.reason or ConnectFailed.code)
            return True
    return False

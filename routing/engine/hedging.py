"""Second attempts beside slow first ones: how many, and at whom.

After J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013: what
has been under way for longer than its 95th percentile is asked of somebody else as well.
"""

from collections.abc import Collection
from itertools import islice

from routing.engine.bounds import bound_nusd
from routing.engine.breaker import BreakerState
from routing.engine.decide import Clock, Decision, attempts
from routing.engine.need import Need
from routing.engine.policy import Candidate, Policy
from routing.engine.state import FleetState, OfferingState

# A quiet time saves up what so many requests earn, and no more: when all are slow, second attempts
# only add to the trouble.
EARNING_REQUESTS = 1000
PRICE = 100.0  # one second attempt, where a request earns its profile's percent
# Who stands further back would seldom do.
MOST_LOOKED_AT = 8


class HedgeBudget:
    """Lets no more second attempts be made than a percent of the requests."""

    __slots__ = ("_earned",)

    def __init__(self) -> None:
        self._earned = 0.0

    def earn(self, percent: float) -> None:
        """Count one request."""
        self._earned = min(self._earned + percent, max(PRICE, percent * EARNING_REQUESTS))

    def spend(self) -> bool:
        """Return whether a second attempt may be made, and count it."""
        if self._earned < PRICE:
            return False
        self._earned -= PRICE
        return True

    def refund(self) -> None:
        """Take back a second attempt that was not made."""
        self._earned += PRICE


def second(
    policy: Policy,
    state: FleetState,
    decision: Decision,
    first: Candidate,
    asked: Collection[str],
    clock: Clock,
) -> Candidate | None:
    """Return whom to ask beside `first`: the next in order that can answer at once, and as well.

    `asked` are the ids of those that were asked before. None where nobody is ready, or where a new
    policy has come since the decision.
    """
    if policy.by_id.get(decision.chosen.id) is not decision.chosen:
        return None
    for candidate in islice(attempts(policy, state, decision, clock), MOST_LOOKED_AT):
        if candidate is first or candidate.id in asked:
            continue
        if _is_ready(state.live[candidate.index]) and _does(candidate, first, decision.need):
            return candidate
    return None


def _is_ready(offering: OfferingState) -> bool:
    """Return whether a call would be worked on at once: no load, no queue, and no probe."""
    if offering.breaker.state is not BreakerState.CLOSED or not offering.loaded:
        return False
    endpoint = offering.endpoint
    if not any(o.in_flight for o in endpoint.offerings):
        return not endpoint.waiting
    # A machine may answer one after another; others are many behind one name.
    return offering.host is None and endpoint.free_slots > 0 and not endpoint.waiting


def _does(candidate: Candidate, first: Candidate, need: Need) -> bool:
    """Return whether its answer is as good as was asked for, and both are within the cost limit."""
    if need.model is not None and candidate.model_name != first.model_name:
        return False
    if candidate.rank < min(need.floor, first.rank):
        return False
    if need.cost_limit_nusd is None:
        return True
    bounds = [bound_nusd(c, need) for c in (candidate, first)]
    return None not in bounds and sum(b or 0 for b in bounds) <= need.cost_limit_nusd

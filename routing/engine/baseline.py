"""What a request would have cost without us: the same tokens at the baseline's prices. Pure.

The admin names the baseline, or leaves it to the first available model that can do the task, by
name: what a caller does who takes whatever is there.
"""

import msgspec

from routing.engine.breaker import BreakerState
from routing.engine.need import Need
from routing.engine.policy import Candidate, Policy
from routing.engine.state import FleetState, OfferingState


class Counterfactual(msgspec.Struct, frozen=True, gc=False):
    """Whom a request is compared with, and what that would have cost.

    `nusd` is nano-dollars; None where it is not known, which is never the same as 0.
    """

    model: str = ""
    nusd: int | None = None


NOBODY = Counterfactual()


def counterfactual(
    policy: Policy,
    state: FleetState,
    need: Need,
    tokens: tuple[int, int, int],
    now: float,
) -> Counterfactual:
    """Return what `tokens` (prompt, completion, of the prompt cached) cost at the baseline.

    `now` is in seconds, monotonic.

    NOBODY where no baseline is named and no model can do the task. Another model might have said
    the same in more or fewer words: that nobody can know, so the tokens are taken as they were.
    """
    named = policy.document.savings.baseline
    candidate = policy.baseline if named else _first_available(policy, state, need, now)
    if candidate is None:
        return Counterfactual(named)
    if named and not _speaks(candidate, need):
        return Counterfactual(named)
    price = candidate.price
    nusd = None if price is None else price.cost_nusd(*tokens, embed=need.task == "embedding")
    return Counterfactual(candidate.model_name, nusd)


def _first_available(policy: Policy, state: FleetState, need: Need, now: float) -> Candidate | None:
    live = state.offerings
    for candidate in policy.by_name(need.task):
        offering = live.get(candidate.id)
        if offering is not None and _is_available(candidate, offering, need, now):
            return candidate
    return None


def _is_available(candidate: Candidate, offering: OfferingState, need: Need, now: float) -> bool:
    if offering.unusable or need.prompt_tokens >= candidate.context_length:
        return False
    breaker = offering.breaker
    return breaker.state is BreakerState.CLOSED or breaker.allows(now)


def _speaks(candidate: Candidate, need: Need) -> bool:
    """Return whether the model could have been asked at all: embedding is another protocol."""
    capabilities = candidate.model.capabilities
    if need.task in capabilities:
        return True
    return need.task != "embedding" and any(task != "embedding" for task in capabilities)

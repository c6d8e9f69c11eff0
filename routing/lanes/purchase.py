"""Decides with an eye on budgets: what is chosen can be paid, or the caller hears what is short."""

from routing.engine.bounds import bound_nusd
from routing.engine.decide import Decision, decide
from routing.engine.errors import BudgetExhausted, NoCandidate
from routing.engine.need import Need
from routing.engine.purse import Purse
from routing.engine.scoring import terms
from routing.engine.wallet import Wallet
from routing.lanes.runtime import Runtime


def affordable(runtime: Runtime, need: Need, now: float, at_s: float) -> Decision:
    """Return the decision for `need`, among what its budgets can pay for.

    Raises BudgetExhausted where they are the reason that nobody can be chosen; otherwise as
    `decide` does. What stands in for a choice that cannot be paid is said by the budget that is
    short: nobody, or models that cost nothing.
    """
    wallet = need.wallet
    try:
        decision = decide(runtime.policy, runtime.state, need, now)
        if wallet is None or not wallet.refused or not _second_best(runtime, decision, wallet, now):
            return decision
        if wallet.short is not None:
            wallet.narrow(wallet.short)
        return decide(runtime.policy, runtime.state, need, now)
    except NoCandidate:
        if wallet is None or wallet.short is None:
            raise
        raise _exhausted(runtime, need, wallet, wallet.short, at_s) from None


def _second_best(runtime: Runtime, decision: Decision, wallet: Wallet, now: float) -> bool:
    """Return True if one that cannot be paid would have been chosen instead."""
    if wallet.strict or wallet.free_only:
        return False
    need, chosen = decision.need, decision.ranked[0]
    if need.model is not None:
        return True
    for name in wallet.refused:
        candidate = runtime.policy.by_id[name]
        live = runtime.state.live[candidate.index]
        total = terms(runtime.policy, candidate, live, need, now).total
        if candidate.rank >= need.floor and total > chosen.score:
            return _worse(decision, wallet)
    return False


def _worse(decision: Decision, wallet: Wallet) -> bool:
    """Return True if the choice may not stand in: it costs nothing, or only such may."""
    short = wallet.short
    if short is not None and short.budget.when_exhausted == "prefer_free":
        return not _free(decision)
    return _free(decision)


def _free(decision: Decision) -> bool:
    price = decision.chosen.price
    return price is not None and price.free


def _exhausted(
    runtime: Runtime, need: Need, wallet: Wallet, short: Purse, at_s: float
) -> BudgetExhausted:
    """Return what to say: the least that would have been enough, of the budget that is short."""
    bounds = [bound_nusd(runtime.policy.by_id[name], need) for name in wallet.refused]
    needed = min((bound for bound in bounds if bound is not None), default=0)
    return BudgetExhausted(short.shortage(needed, at_s))

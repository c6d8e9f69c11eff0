"""What an attempt may cost: held before its upstream is called, and known when it is over."""

from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.engine.bounds import most_prompt_tokens, output_cap
from routing.engine.errors import BudgetUnreachable, ProviderError, Unpaid, UpstreamTimeout
from routing.engine.money import Price
from routing.engine.need import Need
from routing.engine.payers import Payers
from routing.engine.policy import Candidate
from routing.engine.purse import Purse
from routing.engine.wallet import Wallet
from routing.providers.base import Usage

if TYPE_CHECKING:
    from routing.lanes.runtime import Runtime

# Text that was being sent when a call ended: a little more than what came was written.
ON_THE_WAY_TOKENS = 64


def utf8_bytes(text: str) -> int:
    """Return how long `text` is in UTF-8: no byte-level tokenizer makes more tokens of it."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


class Treasury(Protocol):
    """Leases money of hard budgets to this worker's ledger."""

    async def hold(self, payers: Payers, nusd: int) -> Purse | None:
        """Hold `nusd` in every purse; return the one that cannot, for now, or None.

        Waits a fraction of a second at most; raises BudgetUnreachable where nobody can say.
        """


class Tab(msgspec.Struct, gc=False):
    """One attempt's money. It is `open` until the request's record is kept."""

    candidate: Candidate  # who is called
    price: Price | None
    payers: Payers | None  # by whom `bound_nusd` is held; None once it is settled
    bound_nusd: int
    prompt: int  # tokens at most
    embed: bool
    limited: bool  # its answer's length is limited to what is held
    # What it cost, or may have; None while its upstream works. Nobody was called yet.
    known_nusd: int | None = 0
    seen: int = 0  # bytes of the answer that came; -1: more was made than can be seen
    slot: int = -1  # where the hold outlives this process

    @property
    def nusd(self) -> int:
        """Return what it cost, as far as is known, and never less."""
        return self.so_far() if self.known_nusd is None else self.known_nusd

    def fix(self) -> int:
        """Return what it cost, from now on: what is charged and what is recorded are the same."""
        nusd = self.known_nusd
        if nusd is None:
            nusd = self.known_nusd = self.so_far()
        return nusd

    def so_far(self) -> int:
        """Return the most that a call broken off now can cost: a byte is a token at most.

        Silence hides what was written in it: before the first byte, that is all that is held.
        """
        if self.price is None or self.seen <= 0:
            return self.bound_nusd
        seen = self.price.bound_nusd(self.prompt, self.seen + ON_THE_WAY_TOKENS, embed=self.embed)
        return min(seen, self.bound_nusd)

    def fail(self, error: ProviderError) -> None:
        """Note what an attempt that failed may cost: nothing, what came of it, or all it could."""
        if self.known_nusd is not None:
            return
        if not error.may_cost:
            self.known_nusd = 0
        elif isinstance(error, UpstreamTimeout):
            # It fell silent in the middle.
            self.known_nusd = self.bound_nusd
        else:
            self.known_nusd = self.so_far()

    def answered(self, usage: Usage | None) -> None:
        """Note what an answer costs: as its upstream counted, or at most, where it did not."""
        if self.price is None or usage is None:
            self.known_nusd = self.so_far()
            return
        self.known_nusd = self.price.cost_nusd(
            usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, embed=self.embed
        )


def tab_for(candidate: Candidate, need: Need, wallet: Wallet, more_prompt: int) -> Tab:
    """Return the tab of a call for which nothing is held yet.

    It has payers only where something is to be held; where a budget counts only other models' calls
    it says what the call cost.
    """
    price, payers = candidate.price, wallet.payers(candidate.model_name)
    prompt = most_prompt_tokens(candidate, need, more_prompt)
    embed, bound, limited = need.task == "embedding", 0, payers.purses != ()
    if price is not None:
        output = need.max_tokens
        if output is None:
            output = output_cap(candidate, need)
        bound = price.bound_nusd(prompt, output, embed=embed)
    return Tab(
        candidate, price, payers if bound and limited else None, bound, prompt, embed, limited
    )


async def lease_for(
    runtime: "Runtime", wallet: Wallet, tab: Tab, payers: Payers, short: Purse, *, at_once: bool
) -> None:
    """Hold what a tab may come to where this worker has not enough of it. Raises Unpaid, NotReady.

    `short` has too little now. With `at_once`, nothing is lost by going without.
    """
    candidate, bound = tab.candidate, tab.bound_nusd
    if not short.lacks(bound):
        still = await _leased(runtime, payers, bound, short, at_once=at_once)
        if still is None:
            return
        short = still
    if not at_once:
        wallet.refuse(candidate.id, short)
        wallet.narrow(short)
    raise Unpaid(candidate.endpoint_name, short.shortage(bound, runtime.wall()))


async def _leased(
    runtime: "Runtime", payers: Payers, bound: int, short: Purse, *, at_once: bool
) -> Purse | None:
    """Return the purse that cannot pay, after asking for more; None once all of them have.

    Raises BudgetUnreachable where nobody can say and nothing free may stand in.
    """
    try:
        if runtime.treasury is None:
            raise BudgetUnreachable(short.budget.name)
        return await runtime.treasury.hold(payers, bound)
    except BudgetUnreachable:
        # A second attempt beside the first is done without.
        if not at_once and short.budget.when_exhausted != "prefer_free":
            raise
        return short

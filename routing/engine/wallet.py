"""What one request may be paid from, by the budgets that count it. Pure."""

from collections.abc import Iterable

import msgspec

from routing.engine.catalog import BudgetSpec
from routing.engine.payers import Payers
from routing.engine.purse import Purse


class Ready(msgspec.Struct, frozen=True, gc=False):
    """The purses of whoever asks alike, for as long as all of their windows last."""

    payers: Payers  # of calls to any model but these
    by_model: dict[str, Payers]
    all: tuple[Purse, ...]
    starts_at: float
    ends_at: float


class Applying(msgspec.Struct, frozen=True):
    budgets: tuple[BudgetSpec, ...]
    by_model: dict[str, tuple[BudgetSpec, ...]]


def applying_to(
    budgets: Iterable[BudgetSpec], tenant: str, key: str, task: str, tag: str
) -> Applying:
    subjects = {"tenant": tenant, "key": key, "task": task, "tag": tag}
    general: list[BudgetSpec] = []
    by_model: dict[str, tuple[BudgetSpec, ...]] = {}
    # By name: every worker takes them in the same order.
    for budget in sorted(budgets, key=lambda b: b.name):
        if budget.scope == "model":
            by_model[budget.subject] = (*by_model.get(budget.subject, ()), budget)
        elif budget.scope == "all" or (
            budget.subject and subjects.get(budget.scope) == budget.subject
        ):
            general.append(budget)
    return Applying(tuple(general), by_model)


class Wallet(msgspec.Struct):
    """What one request may be paid from. It says which prices it cannot pay, and remembers that."""

    ready: Ready
    refused: tuple[str, ...] = ()  # ids of candidates that could not be paid
    short: Purse | None = None  # the first that could not pay
    strict: bool = False  # not even what is free stands in for what cannot be paid
    free_only: bool = False  # soft budgets that are used up may prefer what is free, too
    # Nothing is short, as far as is known: whatever has a price can be paid.
    easy: bool = True

    def payers(self, model: str) -> Payers:
        """Return what a call to `model` is paid from."""
        return self.ready.by_model.get(model, self.ready.payers)

    def limits(self, model: str) -> bool:
        """Return True if a hard budget counts calls to `model`."""
        return any(purse.hard for purse in self.payers(model).purses)

    def refuses(self, candidate: str, model: str, bound_nusd: int | None) -> str:
        """Return the reason code why a candidate cannot be paid, or ''."""
        if bound_nusd is None:
            return "price_unknown" if self.free_only or self.limits(model) else ""
        if bound_nusd == 0:
            return "budget_exhausted" if self.strict else ""
        if self.free_only:
            return "budget_exhausted"
        for purse in self.payers(model).purses:
            if purse.lacks(bound_nusd):
                self.refuse(candidate, purse)
                return "budget_exhausted"
        return ""

    def refuse(self, candidate: str, purse: Purse) -> None:
        """Note that a candidate could not be paid from a purse."""
        self.short, self.easy = self.short or purse, False
        if candidate not in self.refused:
            self.refused += (candidate,)

    def narrow(self, purse: Purse) -> None:
        """Go on as the budget that is short wants it: with free models only, or with none."""
        self.easy = False
        if purse.prefers_free:
            self.free_only = True
        else:
            self.strict = True


def wallet_of(ready: Ready) -> Wallet:
    """Return a wallet that knows which of its purses are short, or used up."""
    wallet = Wallet(ready)
    if ready.payers.is_open and not ready.by_model:
        return wallet
    for purse in ready.all:
        if purse.troubled:
            wallet.easy = False
            if purse.short is None and purse in ready.payers.purses:
                wallet.free_only = True
    return wallet

"""Which price of a model holds at a moment. Pure: time is an argument."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from routing.engine.catalog import ModelSpec, PriceSpec

# Of a model's own two prices nobody knows since when they hold: always.
ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


class Prices:
    """Every model's prices, each from its moment until the next one's."""

    def __init__(self, dated: Iterable[PriceSpec], models: Mapping[str, ModelSpec]) -> None:
        rows: dict[str, list[PriceSpec]] = defaultdict(list)
        for spec in sorted(dated, key=lambda price: price.valid_from):
            rows[spec.model].append(spec)
        self._rows = dict(rows)
        self._since_s = {
            model: [spec.valid_from.timestamp() for spec in specs] for model, specs in rows.items()
        }
        self._own = {name: own_price(model) for name, model in models.items()}

    def at(self, model: str, when_s: float) -> PriceSpec | None:
        """Return the price of a model at `when_s` (epoch seconds); None where it is not known.

        Before its first dated price, and without any, the model's own two prices count.
        """
        return self.dated(model, when_s) or self._own.get(model)

    def dated(self, model: str, when_s: float) -> PriceSpec | None:
        """Return the dated price that counts at `when_s`; None before the first."""
        since_s = self._since_s.get(model)
        place = bisect_right(since_s, when_s) if since_s else 0
        return self._rows[model][place - 1] if place else None

    def next_change_s(self, when_s: float) -> float:
        """Return when the next price of any model begins to count; inf if none does."""
        later = (since for row in self._since_s.values() for since in row if since > when_s)
        return min(later, default=math.inf)


def own_price(model: ModelSpec) -> PriceSpec | None:
    """Return a model's own two prices as one; None unless both are known."""
    if model.cost_per_1k_input_usd is None or model.cost_per_1k_output_usd is None:
        return None
    return PriceSpec(
        model=model.name,
        valid_from=ALWAYS,
        input_per_1k_usd=model.cost_per_1k_input_usd,
        output_per_1k_usd=model.cost_per_1k_output_usd,
    )

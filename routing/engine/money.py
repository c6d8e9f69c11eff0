"""What a model costs, and the most a call can cost. Whole nano-dollars, rounded up.

A price counts per thousand tokens. Where it is not known there is none: nothing is free because
nobody said what it costs.
"""

from decimal import Decimal

import msgspec

from routing.engine.catalog import HostCostSpec, ModelSpec, PriceSpec

NUSD = Decimal(10**9)
# A billion dollars: what costs more is said to cost this, which no budget pays. A few of them still
# fit PostgreSQL's bigint together.
MOST_NUSD = 2**60
# Reading a prompt is batched work: a token of it takes about a tenth of the time of one written.
READING = 10
# Measured speeds move with every answer; a price that counts two digits of them stays the same.
SPEED_DIGITS = 2


def to_nusd(usd: Decimal | None) -> int | None:
    """Return dollars as whole nano-dollars, or None where the price is not known."""
    return None if usd is None else int((usd * NUSD).to_integral_value())


class Price(msgspec.Struct, frozen=True):
    """Nano-dollars per 1,000 tokens of each kind, and for the request itself."""

    input_nusd: int
    output_nusd: int
    cached_nusd: int
    embedding_nusd: int
    request_nusd: int = 0

    @property
    def free(self) -> bool:
        """Return True if no call can cost anything."""
        most = max(self.input_nusd, self.output_nusd, self.cached_nusd, self.embedding_nusd)
        return most <= 0 and self.request_nusd <= 0

    def cost_nusd(self, prompt: int, output: int, cached: int = 0, *, embed: bool = False) -> int:
        """Return what these tokens cost, rounded up; `cached` of the prompt's were at hand."""
        if embed:
            tokens = self.embedding_nusd * prompt
        else:
            cached = min(max(cached, 0), prompt)
            tokens = self.input_nusd * (prompt - cached) + self.cached_nusd * cached
            tokens += self.output_nusd * output
        return min(-(-tokens // 1000) + self.request_nusd, MOST_NUSD)

    def bound_nusd(self, prompt: int, output: int, *, embed: bool = False) -> int:
        """Return the most that so many tokens can cost, whichever of them are cached."""
        if embed:
            tokens = self.embedding_nusd * prompt
        else:
            asked, cached = self.input_nusd, self.cached_nusd
            tokens = (asked if asked > cached else cached) * prompt + self.output_nusd * output
        nusd = -(-tokens // 1000) + self.request_nusd
        return nusd if nusd < MOST_NUSD else MOST_NUSD


def flat(input_nusd: int, output_nusd: int) -> Price:
    """Return a price that knows input and output only."""
    return Price(input_nusd, output_nusd, input_nusd, input_nusd)


def of_model(model: ModelSpec) -> Price | None:
    """Return a model's own price; None unless both of its halves are known."""
    asked, told = to_nusd(model.cost_per_1k_input_usd), to_nusd(model.cost_per_1k_output_usd)
    return None if asked is None or told is None else flat(asked, told)


def of_spec(spec: PriceSpec) -> Price:
    asked = to_nusd(spec.input_per_1k_usd) or 0
    cached, embedding = to_nusd(spec.cached_input_per_1k_usd), to_nusd(spec.embedding_per_1k_usd)
    return Price(
        input_nusd=asked,
        output_nusd=to_nusd(spec.output_per_1k_usd) or 0,
        cached_nusd=asked if cached is None else cached,
        embedding_nusd=asked if embedding is None else embedding,
        request_nusd=to_nusd(spec.per_request_usd) or 0,
    )


def hour_nusd(cost: HostCostSpec) -> int:
    """Return what an hour of a host's work costs: energy, and what it loses in value."""
    energy = Decimal(str(cost.watts)) / 1000 * cost.energy_per_kwh_usd
    wear = cost.hardware_usd / Decimal(str(cost.lifetime_h))
    return to_nusd(energy + wear) or 0


def of_host(cost_hour_nusd: int, ms_per_token: float) -> Price:
    """Return the price of a model on a host of one's own: the host's time that a token takes.

    A request is charged as if it had the host to itself; answers side by side cost less in truth.
    """
    ms = Decimal(f"%.{SPEED_DIGITS}g" % max(ms_per_token, 0.0))
    output = int((cost_hour_nusd * ms / 3600).to_integral_value(rounding="ROUND_CEILING"))
    return flat(-(-output // READING), output)

"""How much memory a loaded model needs, what experience corrects, and what would have to go. Pure.

Sizes are in GB of 10^9 bytes, which is how hosts are measured here too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# The context of `ModelSpec.ram_required_gb`; what an engine loads by itself is its own affair.
ASSUMED_CONTEXT = 4096
# What was seen of one load is not exactly the next one.
SEEN_MARGIN = 1.05
# The newest load weighs this much; a slower one counts in full at once.
LOAD_ALPHA = 0.3
# Ollama makes room when its prediction is more than this share of the free memory.
OLLAMA_FREE_SHARE = 0.8


def planned_need_gb(ram_gb: float, kv_mb_per_1k: float, num_ctx: int | None) -> float:
    """Return the memory that a model needs with `num_ctx` tokens of context pinned.

    ram_gb + (num_ctx - 4096) / 1000 x kv_mb_per_1k / 1000: `ram_gb` holds weights, surcharge and
    the cache of 4,096 tokens, and the cache grows in proportion to the context. Ollama's own rule:
    `routing.policy.sizing` computes both figures from a model's shape. Without a pinned context the
    engine loads its own default, which `ram_gb` assumes.
    """
    if num_ctx is None or ram_gb <= 0:
        return ram_gb
    return max(0.0, ram_gb + (num_ctx - ASSUMED_CONTEXT) / 1000 * kv_mb_per_1k / 1000)


def load_key(host: str, endpoint: str, upstream_model: str, num_ctx: int | None) -> str:
    """Return what a load is known by: the same model with another context is another load."""
    return f"{host}/{endpoint}/{upstream_model.removesuffix(':latest')}#{num_ctx or 0}"


@dataclass(slots=True)
class Learned:
    """What experience says of one load; 0 where there is none."""

    need_gb: float = 0.0
    load_ms: float = 0.0

    def see_size(self, size_gb: float) -> None:
        """Take over a size that the engine reported; the newest is right, with a margin."""
        if size_gb > 0:
            self.need_gb = size_gb * SEEN_MARGIN

    def see_load(self, took_ms: float) -> None:
        """Learn from a load: slower ones at once, faster ones little by little."""
        if took_ms > self.load_ms:
            self.load_ms = took_ms
        elif took_ms > 0:
            self.load_ms += LOAD_ALPHA * (took_ms - self.load_ms)


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in an engine's memory."""

    model: str  # as the endpoint writes it
    size_gb: float
    loaded_at: float  # seconds, monotonic; 0: long ago
    used_at: float
    in_flight: int = 0
    load_ms: float = 0.0
    kept_until: float = 0.0  # another worker said that it uses it


def eviction(
    residents: Iterable[Resident], short_gb: float, *, now: float, min_residency_s: float
) -> tuple[Resident, ...] | None:
    """Return who has to go so that `short_gb` more is free: () for nobody, None if nobody can.

    Idle ones past their residency only, least recently used first, as Ollama does it.
    """
    if short_gb <= 0:
        return ()
    idle = (
        r
        for r in residents
        if r.in_flight == 0 and now >= r.kept_until and now - r.loaded_at >= min_residency_s
    )
    victims: list[Resident] = []
    for resident in sorted(idle, key=lambda r: (r.used_at, r.model)):
        victims.append(resident)
        short_gb -= resident.size_gb
        if short_gb <= 0:
            return tuple(victims)
    return None

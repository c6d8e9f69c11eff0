"""What the parts' states mean for the whole service."""

from collections.abc import Iterable
from typing import Literal, get_args

from telemetry.offering_health import OfferingHealth

Verdict = Literal["healthy", "degraded", "unhealthy"]
ModelStatus = Literal["healthy", "degraded", "unavailable", "unknown"]
PartState = Literal["ok", "error"]

# As Django's choices, for the API's schema.
VERDICTS = [(name, name) for name in get_args(Verdict)]
MODEL_STATUSES = [(name, name) for name in get_args(ModelStatus)]
PART_STATES = [(name, name) for name in get_args(PartState)]


def part_state(ok: bool) -> PartState:
    """Return the word for a part that works, or does not."""
    return "ok" if ok else "error"


def service_verdict(*, essential: Iterable[bool], desirable: Iterable[bool]) -> Verdict:
    """Return unhealthy if something essential fails, degraded if something else does."""
    if not all(essential):
        return "unhealthy"
    return "healthy" if all(desirable) else "degraded"


def model_status(offerings: list[OfferingHealth]) -> ModelStatus:
    """Return how a model stands: everywhere fit, somewhere, nowhere, or nobody has looked."""
    fit = [o for o in offerings if o.healthy]
    if not fit:
        return "unavailable"
    if all(o.up is None for o in offerings):
        return "unknown"
    return "healthy" if len(fit) == len(offerings) else "degraded"

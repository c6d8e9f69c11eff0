"""Why an offering cannot take a request: reason codes, and what is said of them. Pure."""

from routing.engine.bounds import bound_nusd
from routing.engine.breaker import BreakerState
from routing.engine.catalog import QUALITY_TIERS
from routing.engine.memory import Resident, eviction
from routing.engine.need import Need
from routing.engine.policy import Candidate
from routing.engine.pressure import may_load
from routing.engine.state import HostState, OfferingState

REASONS: dict[str, str] = {
    "capability": "the model cannot do this task type",
    "not_allowed": "the API key or its tenant may not use the model",
    "quality_floor": "the model's quality tier is below what is asked for",
    "context_length": "prompt and answer do not fit the model's context",
    "cost_limit": "the answer could cost more than costLimit",
    "price_unknown": "the model has no known price, and what may be spent is limited",
    "budget_exhausted": "a budget has less left than the answer could cost",
    "endpoint_down": "the endpoint did not answer its last probe",
    "not_offered": "the endpoint does not hold the model now",
    "unhealthy": "reported unfit by model.health_changed",
    "breaker_open": "its circuit breaker is open after failures",
    "memory_fit": "loading the model would not fit the host's free memory",
    "memory_pressure": "the host's memory is too tight to load anything for this priority",
    "memory_unknown": "the host's memory is not known, so nothing new is loaded there",
    "uncoordinated": "loads cannot be coordinated now, so only loaded models are used",
    "crowded": "its queue is full, or longer than the request may wait",
    "excluded": "it has failed this request already",
}


def rejection(candidate: Candidate, offering: OfferingState, need: Need, now: float) -> str:
    """Return the reason code why this offering cannot take the request, or ''."""
    if need.allowed is not None and candidate.model_name not in need.allowed:
        return "not_allowed"
    if offering.unusable:
        return offering.unusable
    breaker = offering.breaker
    if breaker.state is not BreakerState.CLOSED and not breaker.allows(now):
        return "breaker_open"
    if need.prompt_tokens + (need.max_tokens or 1) > candidate.context_length:
        return "context_length"
    if not offering.loaded and (refused := _memory_refusal(offering, need, now)):
        return refused
    if need.cost_limit_nusd is not None and (refused := _cost_refusal(candidate, need)):
        return refused
    wallet, price = need.wallet, candidate.price
    # Where nothing is short, whatever has a price can be paid.
    if wallet is not None and (price is None or not wallet.easy):
        bound = bound_nusd(candidate, need)
        if refused := wallet.refuses(candidate.id, candidate.model_name, bound):
            return refused
    if candidate.id in need.exclude:
        return "excluded"
    return ""


def _memory_refusal(offering: OfferingState, need: Need, now: float) -> str:
    host = offering.host
    if host is None:
        return ""
    if not host.fresh(now):
        return "memory_unknown"
    if not may_load(host.level, need.priority):
        return "memory_pressure"
    if now < host.alone_until:
        return "uncoordinated"
    if offering.load_key == host.loading:
        return ""
    critical = need.priority == "critical"
    return "memory_fit" if displaced(offering, host, now, critical=critical) is None else ""


def displaced(
    offering: OfferingState, host: HostState, now: float, *, critical: bool
) -> tuple[Resident, ...] | None:
    """Return the models that a cold load would push out of memory; None if it does not fit."""
    short_gb = offering.need_gb - (host.room_gb(critical=critical) - host.reserved_gb)
    endpoint = offering.endpoint
    if short_gb <= 0:
        return ()
    if not endpoint.sizes_gb:
        return None
    return eviction(
        endpoint.residents(), short_gb, now=now, min_residency_s=endpoint.min_residency_s
    )


def _cost_refusal(candidate: Candidate, need: Need) -> str:
    bound = bound_nusd(candidate, need)
    if bound is None:
        return "price_unknown"
    return "cost_limit" if bound > (need.cost_limit_nusd or 0) else ""


def detail(reason: str, candidate: Candidate, offering: OfferingState, need: Need) -> str:
    """Return what a reason code means in this case, for people."""
    if reason == "memory_fit" and offering.host is not None:
        return _memory_detail(offering, offering.host, critical=need.priority == "critical")
    if reason == "context_length":
        asked = need.prompt_tokens + (need.max_tokens or 1)
        return f"about {asked} tokens asked, context holds {candidate.context_length}"
    if reason == "quality_floor":
        return f"{candidate.model.quality_tier} is below {QUALITY_TIERS[need.floor]}"
    return REASONS[reason]


def _memory_detail(offering: OfferingState, host: HostState, *, critical: bool) -> str:
    room_gb = host.room_gb(critical=critical) - host.reserved_gb
    said = f"needs {offering.need_gb:.1f} GB, {max(room_gb, 0.0):.1f} GB may be used"
    for key, load in sorted(host.loads.items()):
        what = key.partition("/")[2].partition("#")[0]
        said += f", {load.need_gb:.1f} GB reserved for {what}"
    return said

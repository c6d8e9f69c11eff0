"""How well an offering suits a request, from 0 to 1, and how long it will take. Pure."""

import math
from dataclasses import dataclass

from routing.engine.memory import Resident
from routing.engine.need import Need, likely_tokens
from routing.engine.policy import Candidate, Policy
from routing.engine.refusal import displaced
from routing.engine.state import OfferingState

# An expected answer time of this long halves the latency score.
LATENCY_HALF_MS = 5000.0
# A model last used this long ago is half as likely to be asked for as one just used.
RECENT_S = 60.0


@dataclass(slots=True)
class Terms:
    """The parts of one candidate's score, each 0..1, for `explain`."""

    quality: float
    cost: float
    latency: float
    memory: float
    success: float
    expected_ms: float
    wait_ms: float
    total: float


def expected_ms(
    candidate: Candidate, offering: OfferingState, need: Need, now: float = math.inf
) -> float:
    """Return the expected time to a whole answer, in ms: queue, load if cold, and generation.

    Without a time (`now`), no load that others began is waited for.
    """
    answer_ms = offering.ttft_ms + offering.ms_per_token * likely_tokens(need)
    queued_ms = answer_ms + offering.endpoint.wait_ms
    return queued_ms if offering.loaded else queued_ms + _cold_ms(offering, need, now)


def _cold_ms(offering: OfferingState, need: Need, now: float) -> float:
    """Return what a cold start adds: the host's load under way, its own, and what it undoes."""
    host = offering.host
    if host is None or now == math.inf:
        return offering.load_ms
    wait_ms = max(host.ready_at - now, 0.0) * 1000
    if offering.load_key == host.loading:
        return wait_ms
    cold_ms = wait_ms + offering.load_ms
    victims = displaced(offering, host, now, critical=need.priority == "critical")
    return cold_ms + sum(_return_ms(victim, now) for victim in victims) if victims else cold_ms


def _return_ms(victim: Resident, now: float) -> float:
    """Return what bringing a displaced model back costs: less, the longer nobody used it."""
    return victim.load_ms / (1 + max(now - victim.used_at, 0.0) / RECENT_S)


def latency_score(
    candidate: Candidate, offering: OfferingState, need: Need, now: float = math.inf
) -> float:
    return LATENCY_HALF_MS / (LATENCY_HALF_MS + expected_ms(candidate, offering, need, now))


def memory_score(candidate: Candidate, offering: OfferingState) -> float:
    """Return 1 where nothing must be loaded, else the share of the host left free afterwards."""
    host = offering.host
    if offering.loaded or host is None:
        return 1.0
    if host.total_gb <= 0:
        return 0.0
    left = (host.available_gb - host.reserved_gb - offering.need_gb) / host.total_gb
    return min(1.0, max(0.0, left))


def terms(
    policy: Policy, candidate: Candidate, offering: OfferingState, need: Need, now: float
) -> Terms:
    """Return every part of one candidate's score."""
    weight_latency, weight_memory, weight_success = policy.dynamic_weights[need.priority]
    latency = latency_score(candidate, offering, need, now)
    memory = memory_score(candidate, offering)
    success = offering.success_rate
    dynamic = weight_latency * latency + weight_memory * memory + weight_success * success
    return Terms(
        quality=candidate.quality,
        cost=candidate.cost_score,
        latency=latency,
        memory=memory,
        success=success,
        expected_ms=expected_ms(candidate, offering, need, now),
        wait_ms=offering.endpoint.wait_ms,
        total=policy.static_score(candidate, need.task, need.priority) + dynamic,
    )

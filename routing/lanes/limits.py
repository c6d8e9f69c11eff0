"""How long and how large an answer may be; docs/routing.md says where each figure comes from."""

from routing.engine.need import Need
from routing.engine.policy import Candidate
from routing.engine.scoring import expected_ms
from routing.engine.state import OfferingState

FIRST_TOKEN_S = 15.0
BETWEEN_TOKENS_S = 20.0
# After the finish reason only usage and the end marker can follow; not every server sends them.
AFTER_FINISH_S = 1.0
# How much of the wait behind others is granted before silence counts as a failure.
MOST_QUEUE_S = 60.0
COLD_LOAD_FACTOR = 2.0
SLOW_ANSWER_FACTOR = 3.0
# No model answers at such length; a server that goes on and on must not fill this process.
MAX_ANSWER_CHARS = 16 * 1024 * 1024


def whole_s(
    candidate: Candidate, live: OfferingState, need: Need, *, left_s: float, others: bool
) -> float:
    """Return how long a whole answer may take before it counts as a failure, in seconds.

    `left_s` is until the deadline. Where others could answer, half of it is kept for them, unless
    the answer is expected to take longer: a model that was never measured may be silent or slow.
    """
    expected_s = expected_ms(candidate, live, need) / 1000
    patient_s = FIRST_TOKEN_S + SLOW_ANSWER_FACTOR * expected_s
    if others:
        patient_s = min(patient_s, max(FIRST_TOKEN_S + expected_s, left_s / 2))
    return min(patient_s, left_s)


def first_token_s(live: OfferingState, queue_s: float) -> float:
    """Return how long a streamed answer may take to begin, in seconds."""
    allowed_s = FIRST_TOKEN_S + min(queue_s, MOST_QUEUE_S)
    if live.loaded:
        return allowed_s
    return allowed_s + COLD_LOAD_FACTOR * live.load_ms / 1000

"""How an attempt comes by its place: through the gate, at once or in turn."""

from routing.engine.errors import Crowded
from routing.engine.policy import Candidate
from routing.engine.state import OfferingState
from routing.lanes.gate import Pass
from routing.lanes.job import Job
from routing.lanes.runtime import Runtime


async def enter_at_once(
    runtime: Runtime, job: Job, candidate: Candidate, live: OfferingState
) -> Pass | None:
    """Return the right to call if nobody has to be waited for and nothing loaded, else None."""
    if not live.loaded:
        return None
    passed = runtime.gate.try_enter(candidate, live, job.need)
    if passed is not None:
        return passed
    try:
        # The places of an idle endpoint may be a round trip away.
        return await runtime.gate.enter(candidate, live, job.need, longest_s=0.0)
    except Crowded:
        return None


async def enter(
    runtime: Runtime, job: Job, candidate: Candidate, live: OfferingState
) -> Pass | None:
    """Return the right to call; None if that would take too long, which the trail then says.

    Raises ProviderError or TimeoutError where the model had to be loaded first and was not.
    """
    passed = runtime.gate.try_enter(candidate, live, job.need)
    if passed is not None:
        return passed

    before = job.trail.queue_position

    def waits(position: int, expected_ms: int) -> None:
        job.trail.queue_position = before or position
        job.trail.waiting = (position, expected_ms)

    began = runtime.clock()
    longest_s = min(job.longest_wait_s - job.trail.queued_ms / 1000, job.deadline - began)
    try:
        passed = await runtime.gate.enter(
            candidate, live, job.need, longest_s=longest_s, on_wait=waits
        )
        if not passed.in_turn:
            job.trail.queue_position = before
        return passed
    except Crowded as exc:
        job.trail.failures.append((candidate.model_name, exc))
        return None
    finally:
        job.trail.waiting = None
        job.trail.queued_ms += int((runtime.clock() - began) * 1000)

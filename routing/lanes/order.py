"""Whom to ask next, whether to ask again, and what to say when nobody answered."""

import asyncio
from collections.abc import Iterator

from msgspec.structs import replace

from routing.engine.decide import attempts, decide
from routing.engine.errors import (
    AttemptsFailed,
    BudgetExhausted,
    Crowded,
    DeadlineExceeded,
    NoCandidate,
    Rejection,
    RoutingError,
    Unpaid,
)
from routing.engine.policy import Candidate
from routing.lanes.job import Job, Trail
from routing.lanes.revival import MOST_ROUNDS, revived
from routing.lanes.runtime import Runtime

RETRY_BASE_S = 0.25
# Two different models that blame the request have proved it at fault.
REFUSALS_BELIEVED = 2


def in_order(runtime: Runtime, job: Job) -> Iterator[Candidate]:
    """Yield whom to ask next, for as long as asking makes sense."""
    order = attempts(runtime.policy, runtime.state, job.decision, runtime.clock)
    while not is_over(runtime, job) and (candidate := next(order, None)) is not None:
        if candidate is not job.trail.hedge:
            yield candidate


async def once_more(runtime: Runtime, job: Job, round_number: int) -> bool:
    """Return True if others may be asked now: a breaker let go, of one who has not failed here.

    `round_number` counts from 1. The job's decision is then about those.
    """
    if round_number > MOST_ROUNDS or is_over(runtime, job):
        return False
    asked = {f"{a.model}@{a.endpoint}" for a in job.trail.attempts}
    asked |= {f"{model}@{error.endpoint}" for model, error in job.trail.failures}
    need = replace(job.need, exclude=job.need.exclude | asked)
    if not await revived(runtime, need, job.deadline):
        return False
    try:
        job.decision = decide(runtime.policy, runtime.state, need, runtime.clock())
    except RoutingError:
        return False
    return True


def is_over(runtime: Runtime, job: Job) -> bool:
    """Return True if nobody may be asked any more."""
    if len(job.trail.attempts) == job.most_attempts:
        return True
    return job.is_late(runtime.clock()) or len(job.trail.refusals) >= REFUSALS_BELIEVED


def outcome(runtime: Runtime, job: Job) -> Exception:
    """Return what to tell the caller when nobody answered."""
    unpaid = [e for _, e in job.trail.failures if isinstance(e, Unpaid)]
    if unpaid and not job.trail.attempts:
        return BudgetExhausted(unpaid[0].shortage)
    if job.trail.failures and all(isinstance(e, Crowded) for _, e in job.trail.failures):
        return _all_crowded(job.trail)
    if job.trail.refusals:
        return job.trail.refusals[0]
    if job.is_late(runtime.clock()):
        return DeadlineExceeded(job.deadline_ms)
    return AttemptsFailed(tuple(job.trail.failures))


def _all_crowded(trail: Trail) -> NoCandidate:
    """Return the refusal of a request that nobody could take in time."""
    told = tuple(
        Rejection(model, error.endpoint, error.code, str(error)) for model, error in trail.failures
    )
    waits = [e.retry_after_s for _, e in trail.failures if e.retry_after_s is not None]
    return NoCandidate(told, retry_after_s=min(waits, default=None))


async def worth_asking_again(runtime: Runtime, job: Job, candidate: Candidate) -> bool:
    """Wait a little and return True if the last failure may pass at the same endpoint."""
    if job.is_late(runtime.clock()):
        return False
    asked = [(a.model, a.endpoint) for a in job.trail.attempts[-1:]]
    if not job.trail.failures or isinstance(job.trail.failures[-1][1], Unpaid):
        return False
    if asked != [(candidate.model_name, candidate.endpoint_name)]:
        return False  # its breaker opened, or the policy dropped it
    error = job.trail.failures[-1][1]
    if not error.retry_same or len(job.trail.attempts) == job.most_attempts:
        return False
    wait_s = runtime.jitter() * RETRY_BASE_S
    if error.retry_after_s is not None:
        # Asked to stay away: another candidate is sooner, unless it is hardly any time.
        if error.retry_after_s > RETRY_BASE_S:
            return False
        wait_s = error.retry_after_s
    if job.is_late(runtime.clock() + wait_s):
        return False
    await asyncio.sleep(wait_s)
    return True

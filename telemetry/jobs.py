"""Runs the conductor's jobs side by side and brings back the one that fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from telemetry.waiting import Backoff, pause

logger = logging.getLogger(__name__)

# A job takes a stop event, returns soon after it is set, and never returns before.
Job = Callable[[asyncio.Event], Awaitable[None]]
LATER_S = 60.0
CANCEL_LIMIT_S = 0.5


async def keep_running(name: str, job: Job, stop: asyncio.Event) -> None:
    """Run `job` until `stop` is set; after an unexpected error, again with a growing pause."""
    backoff = Backoff(first_s=0.5, most_s=30.0)
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        started = loop.time()
        try:
            await job(stop)
        except Exception:
            logger.exception("The job %s failed; it starts again.", name)
        else:
            if not stop.is_set():
                logger.error("The job %s ended by itself; it starts again.", name)
        if loop.time() - started > LATER_S:
            backoff.succeeded()
        await pause(stop, backoff.failed())


async def run_jobs(jobs: Mapping[str, Job], stop: asyncio.Event, grace_s: float) -> bool:
    """Run all jobs until `stop`; then give them `grace_s` to finish. Returns whether they did."""
    tasks = [
        asyncio.create_task(keep_running(name, job, stop), name=name) for name, job in jobs.items()
    ]
    await stop.wait()
    _, late = await asyncio.wait(tasks, timeout=grace_s)
    for task in late:
        logger.warning("The job %s did not finish within %g s.", task.get_name(), grace_s)
        task.cancel()
    if late:
        # Bounded again: a job may be stuck where it cannot be cancelled.
        await asyncio.wait(late, timeout=CANCEL_LIMIT_S)
    return not late

"""Starts and stops a worker's data plane: policy, news, and 20 looks a second at this host."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from routing.coordination.slots import SlotKeeper
from routing.lanes.bus import StateBus
from routing.lanes.runtime import Runtime
from routing.policy.watch import PolicyUnavailable, PolicyWatcher
from telemetry.queue_news import EndpointQueue, QueueNews, busy
from telemetry.recorder import Recorder
from telemetry.sampler import sample

logger = logging.getLogger(__name__)

SAMPLE_EVERY_S = 0.05
POLICY_RETRY_S = 1.0
RESTART_S = 1.0
QUEUES_EVERY_S = 0.5
# Figures that stay the same are told again, so that they are known to be fresh.
QUEUES_AGAIN_S = 4.0


class DataPlane:
    """One worker's runtime with its background tasks."""

    def __init__(
        self,
        *,
        redis_url: str,
        spool_dir: Path,
        worker: str,
        resolve_secret: Callable[[str], str],
    ) -> None:
        self.runtime = Runtime(
            recorder=Recorder(spool_dir, worker), resolve_secret=resolve_secret, worker=worker
        )
        self._watcher = PolicyWatcher(redis_url)
        self._bus = StateBus(redis_url, self.runtime.hear)
        self.runtime.breaker_news = self._bus.tell
        # Workers of several nodes may share a name; places are leased to this very process.
        self._slots = SlotKeeper(redis_url, f"{worker}-{secrets.token_hex(4)}")
        self.runtime.gate.share(self._slots)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the tasks; requests are admitted once a policy is there."""
        self.runtime.see_local_host(sample())
        jobs = (
            self._policy,
            self._bus.listen,
            self._bus.speak,
            self._watch_host,
            self._tell_queues,
            self._slots.run,
            self._slots.listen,
        )
        self._tasks = [asyncio.create_task(_kept_up(job)) for job in jobs]

    async def stop(self) -> None:
        """Stop the tasks and close every connection."""
        self._stop.set()
        while running := [task for task in self._tasks if not task.done()]:
            for task in running:
                task.cancel()
            # Again until it works: redis-py's pub/sub can swallow a cancellation.
            await asyncio.wait(running, timeout=0.2)
        await self.runtime.close()

    async def _policy(self) -> None:
        waiting = False
        while not self.runtime.ready:
            try:
                self.runtime.adopt(await self._watcher.initial())
            except PolicyUnavailable as exc:
                if not waiting:
                    logger.warning("No policy yet: %s", exc)
                waiting = True
                await asyncio.sleep(POLICY_RETRY_S)
        await self._watcher.run(self._stop, self.runtime.adopt)

    async def _tell_queues(self) -> None:
        """Say who runs and waits where, at most twice a second and only if it changed."""
        last: tuple[EndpointQueue, ...] = ()
        told_at = 0.0
        while True:
            await asyncio.sleep(QUEUES_EVERY_S)
            rows, now = self.runtime.gate.queues(), time.time()
            if rows == last and not (any(map(busy, rows)) and now - told_at > QUEUES_AGAIN_S):
                continue
            last, told_at = rows, now
            self._bus.tell(QueueNews(worker=self._slots.worker, at=now, endpoints=rows))

    async def _watch_host(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            self.runtime.see_local_host(sample())


async def _kept_up(job: Callable[[], Awaitable[None]]) -> None:
    """Do a job until it is done; one that fails is begun again, for a worker goes on without."""
    while True:
        try:
            return await job()
        except Exception:
            logger.exception("A task of the data plane failed; it begins again")
            await asyncio.sleep(RESTART_S)

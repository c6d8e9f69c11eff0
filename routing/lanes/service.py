"""Starts and stops a worker's data plane: policy, news, and 20 looks a second at this host."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from routing.coordination.answers import AnswerStore
from routing.coordination.breakers import ProbeClaims
from routing.coordination.rates import RateKeeper
from routing.coordination.reservations import Reservations
from routing.coordination.slots import SlotKeeper
from routing.lanes.bus import StateBus
from routing.lanes.doorkeeper import Doorkeeper
from routing.lanes.idempotency import Idempotency
from routing.lanes.loading import FleetLoader
from routing.lanes.probing import FleetProbes
from routing.lanes.runtime import Runtime
from routing.lanes.tolls import Tolls
from routing.policy.tokens import digest_key
from routing.policy.watch import PolicyUnavailable, PolicyWatcher
from routing.treasury.desk import Desk
from routing.treasury.statements import Connection
from telemetry import waiting
from telemetry.overrun_news import AGAIN_S, OverrunNews
from telemetry.queue_news import EndpointQueue, QueueNews, busy
from telemetry.recorder import Recorder
from telemetry.sampler import sample
from telemetry.spool.layout import identity

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
        secret: str,
        idempotency_ttl_s: float,
        connect: Callable[[], Awaitable[Connection]] | None = None,
        require_keys: bool = False,
    ) -> None:
        self.runtime = Runtime(
            recorder=Recorder(spool_dir, worker),
            resolve_secret=resolve_secret,
            worker=worker,
            doorkeeper=Doorkeeper(digest_key(secret), required=require_keys),
        )
        self.runtime.idempotency = Idempotency(
            AnswerStore(redis_url), secret, keep_s=idempotency_ttl_s
        )
        self._watcher = PolicyWatcher(redis_url)
        self._bus = StateBus(redis_url, self.runtime.hear)
        self.runtime.breaker_news = self._bus.tell
        self.runtime.fleet_time = self._bus.fleet_time
        self._probes = FleetProbes(ProbeClaims(redis_url, self.runtime.identity), self._bus)
        self.runtime.allow_probe = self._probes.allow
        self.runtime.load_news = self._bus.tell
        self.runtime.reservations = Reservations(redis_url)
        # Places are leased to this very process: workers of several nodes may share a name.
        self._slots = SlotKeeper(redis_url, self.runtime.identity)
        self.runtime.gate.share(self._slots)
        self._rates = RateKeeper(redis_url, self.runtime.identity)
        self.runtime.tolls = Tolls(self._rates, self.runtime.clock)
        self.runtime.gate.loader = FleetLoader(self.runtime)
        self._desk: Desk | None = None
        if connect is not None:
            self._desk = Desk(
                self.runtime.ledger,
                connect=connect,
                redis_url=redis_url,
                spool=identity(spool_dir),
                holder=self.runtime.recorder.holder,
            )
            self.runtime.treasury = self._desk
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the tasks; requests are admitted once a policy is there."""
        self.runtime.see_local_host(sample())
        jobs: list[Callable[[], Awaitable[None]]] = [
            self._policy,
            self._bus.listen,
            self._bus.speak,
            self._watch_host,
            self._tell_queues,
            self._tell_overruns,
            self._slots.run,
            self._slots.listen,
            self._rates.run,
            self._rates.listen,
        ]
        if self._desk is not None:
            jobs += [self._desk.run, self._desk.listen]
        self._tasks = [asyncio.create_task(_kept_up(job)) for job in jobs]

    async def stop(self) -> None:
        """Stop the tasks and close every connection."""
        self._stop.set()
        await waiting.end(self._tasks)
        await self.runtime.close()
        await self._probes.close()

    async def _policy(self) -> None:
        warned = False
        while not self.runtime.ready:
            try:
                self.runtime.adopt(await self._watcher.initial())
            except PolicyUnavailable as exc:
                if not warned:
                    logger.warning("No policy yet: %s", exc)
                warned = True
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

    async def _tell_overruns(self) -> None:
        """Say what cost more than was held, once it did, and again every minute."""
        last, told_at = (0, 0), 0.0
        while True:
            await asyncio.sleep(QUEUES_EVERY_S)
            ledger, now = self.runtime.ledger, time.time()
            counted = (ledger.overruns, ledger.overrun_nusd)
            if counted == (0, 0) or (counted == last and now - told_at < AGAIN_S):
                continue
            last, told_at = counted, now
            news = OverrunNews(self.runtime.identity, now, ledger.overruns, ledger.overrun_nusd)
            self._bus.tell(news)

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

"""The conductor, one a node: ships records, samples the host, probes endpoints, tells dashboards.

`python -m orchestra_site.conductor`; ends on SIGTERM or SIGINT after shipping what is spooled.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial

from redis.asyncio import Redis

from orchestra_site import collector
from telemetry.jobs import Job, run_jobs
from telemetry.waiting import pause

GRACE_S = 3.0
CATALOGUE_RETRY_S = 1.0
REDIS_LIMIT_S = 5.0  # a busy disk holds Redis up for a second or two


def main() -> int:
    """Run until told to stop; returns the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestra_site.settings")
    import django

    django.setup()
    asyncio.run(conduct())
    return 0


async def conduct() -> None:
    """Compose the jobs and run them until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    from telemetry.redis_client import open_redis

    async with open_redis(REDIS_LIMIT_S) as redis:
        jobs = compose(redis)
        collector.calm()
        ended = await run_jobs(jobs, stop, GRACE_S)
    if not ended:
        logging.shutdown()
        # The loop would wait for what does not end; whatever is not shipped is in the spool.
        os._exit(1)


def compose(redis: Redis) -> dict[str, Job]:
    """Return every job by its name; needs Django to be set up."""
    from django.conf import settings

    from routing.engine.catalog import PolicyDocument
    from routing.policy import keeper, prober
    from routing.policy.offered import known_offerings
    from routing.policy.watch import PolicyUnavailable, PolicyWatcher
    from routing.treasury import statements
    from routing.treasury.conductor import Thresholds
    from routing.treasury.retention import tidy
    from telemetry.database import AsyncConnection
    from telemetry.event_bus import EventBus
    from telemetry.event_intake import EventIntake
    from telemetry.leader import Leader
    from telemetry.live import LiveFeed
    from telemetry.partitions import Retention
    from telemetry.record import RequestRecord
    from telemetry.sampling import Sampling
    from telemetry.shipper import Shipper
    from telemetry.spool.layout import identity

    name = f"{socket.gethostname()}:{settings.WORKER or 'conductor'}"
    bus, feed = EventBus(redis), LiveFeed(redis, name)
    thresholds = Thresholds(bus.publish_once)
    spool = identity(settings.SPOOL_DIR)

    async def bury(connection: AsyncConnection, holder: str) -> None:
        await statements.bury(connection, spool=spool, holder=holder)

    def shipped(records: Sequence[RequestRecord]) -> None:
        bus.publish_records(records)
        feed.shipped(records)

    def changed(policy: PolicyDocument) -> None:
        feed.offerings = known_offerings(policy)
        thresholds.adopt(policy)

    def models() -> set[str]:
        return {offering.model for offering in feed.offerings}

    async def catalogue(stop: asyncio.Event) -> None:
        watcher = PolicyWatcher(settings.REDIS_URL)
        while not stop.is_set():
            with contextlib.suppress(PolicyUnavailable):
                changed(await watcher.initial())
                break
            await pause(stop, CATALOGUE_RETRY_S)
        await watcher.run(stop, changed)

    retention = Retention(settings.RETENTION_DAYS, settings.SUMS_RETENTION_DAYS)
    return {
        "shipper": Shipper(
            settings.SPOOL_DIR,
            shipped,
            retention_days=retention.days,
            settle=statements.settle,
            bury=bury,
        ).run,
        "thresholds": thresholds.run,
        "sampling": Sampling(bus.publish).run,
        "events": bus.run,
        "intake": EventIntake(redis, name, publish=bus.publish, models=models).run,
        "leader": Leader(
            redis,
            feed.memory_by_model,
            retention=retention,
            tidy=partial(tidy, days=settings.BUDGETS_RETENTION_DAYS),
        ).run,
        "live": feed.run,
        "catalogue": catalogue,
        "prober": prober.run,
        "keeper": keeper.run,
    }


if __name__ == "__main__":
    sys.exit(main())

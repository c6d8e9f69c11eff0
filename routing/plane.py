"""This process's data plane, for every door: made once, on the loop that serves."""

import asyncio
import os
import time
from functools import partial

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from routing.lanes.runtime import Runtime
from routing.lanes.service import DataPlane
from routing.providers.secrets import resolve
from telemetry.database import connect

LOOK_EVERY_S = 0.01

_plane: DataPlane | None = None
_starting: asyncio.Lock | None = None


def current() -> Runtime | None:
    """Return the runtime, or None before `start`."""
    return _plane.runtime if _plane else None


async def start() -> Runtime:
    """Start the data plane of this process unless it runs already; return its runtime.

    Servers without a lifespan (daphne's `runserver`) come here with their first request.
    """
    global _plane, _starting
    _starting = _starting or asyncio.Lock()
    async with _starting:
        if _plane is None:
            plane = DataPlane(
                redis_url=settings.REDIS_URL,
                spool_dir=settings.SPOOL_DIR,
                worker=settings.WORKER or f"pid-{os.getpid()}",
                resolve_secret=resolve,
                secret=settings.SECRET_KEY,
                idempotency_ttl_s=settings.IDEMPOTENCY_TTL_S,
                connect=partial(connect, "treasury"),
                require_keys=settings.REQUIRE_KEYS,
            )
            await plane.start()
            _plane = plane
    return _plane.runtime


async def ready_within(seconds: float) -> bool:
    """Wait until requests are admitted, but no longer than that; return whether they are."""
    end = time.monotonic() + seconds
    while (runtime := current()) is not None and not runtime.ready:
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return runtime is not None


async def stop() -> None:
    """Stop the data plane, if there is one."""
    global _plane, _starting
    plane, _plane, _starting = _plane, None, None
    if plane is not None:
        await plane.stop()


def host_allowed(host: str) -> bool:
    """Return whether a Host header names this service, by Django's own rule."""
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)

"""Waiting for what happens elsewhere, in a thread or in another task."""

import asyncio
import time
from collections.abc import Callable


async def soon(true: Callable[[], bool], limit_s: float = 1.0) -> None:
    """Return when it is true; fail if it is not within the limit."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"not within {limit_s:g} s"
        await asyncio.sleep(0.01)

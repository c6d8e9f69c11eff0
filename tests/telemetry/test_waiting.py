"""Ending tasks whose libraries swallow a cancellation now and then."""

import asyncio

import pytest

from telemetry import waiting

BEAT_S = 0.05
DEAF_S = 0.02  # so long before and after a beat a cancellation is lost


async def test_a_task_that_beats_as_often_as_it_is_cancelled_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As redis-py does, whose write may be over at the moment its caller is cancelled."""
    monkeypatch.setattr(waiting, "CANCEL_AGAIN_S", BEAT_S)
    loop = asyncio.get_running_loop()
    lost = 0

    async def beating() -> None:
        nonlocal lost
        at = loop.time()
        while True:
            try:
                await asyncio.sleep(at + BEAT_S - loop.time())
            except asyncio.CancelledError:
                phase = (loop.time() - at) % BEAT_S
                if DEAF_S / 2 < phase < BEAT_S - DEAF_S / 2:
                    raise
                lost += 1
            at = loop.time()

    task = asyncio.create_task(beating())
    await asyncio.sleep(0)
    async with asyncio.timeout(100 * BEAT_S):
        await waiting.end([task])
    assert task.cancelled()
    assert lost > 0

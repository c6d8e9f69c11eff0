"""Jobs side by side: one's fault does not end the others, and stopping is bounded."""

import asyncio

import pytest

from telemetry.jobs import run_jobs


async def test_a_job_that_fails_or_ends_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    stop, begun = asyncio.Event(), {"fails": 0, "ends": 0, "works": 0}

    async def fails(stop: asyncio.Event) -> None:
        begun["fails"] += 1
        raise RuntimeError("broken on purpose")

    async def ends(stop: asyncio.Event) -> None:
        begun["ends"] += 1

    async def works(stop: asyncio.Event) -> None:
        begun["works"] += 1
        await stop.wait()

    running = asyncio.create_task(run_jobs({"a": fails, "b": ends, "c": works}, stop, 3))
    await asyncio.sleep(0.8)
    stop.set()
    assert await asyncio.wait_for(running, 5) is True
    assert begun["fails"] >= 2
    assert begun["ends"] >= 2
    assert begun["works"] == 1
    assert "broken on purpose" in caplog.text
    assert "The job b ended by itself" in caplog.text


async def test_stopping_waits_no_longer_than_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    stop, finished = asyncio.Event(), []

    async def finishes(stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.sleep(0.1)
        finished.append(True)

    async def hangs(stop: asyncio.Event) -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(run_jobs({"good": finishes, "bad": hangs}, stop, 0.3))
    await asyncio.sleep(0.05)
    stop.set()
    assert await asyncio.wait_for(running, 3) is False
    assert finished == [True]
    assert "The job bad did not finish" in caplog.text

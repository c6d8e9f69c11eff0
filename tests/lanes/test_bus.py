"""State news between two workers, over a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
import redis.asyncio

from routing.lanes.bus import CLOCK_LOOKS, StateBus
from telemetry import waiting
from telemetry.redis_names import STATE_CHANNEL
from telemetry.state_news import BreakerNews, EndpointNews, StateNews
from tests.waiting import soon


def unheard(news: StateNews) -> None:
    """Hear and forget."""


OPEN = BreakerNews("m@e", "open", at=1.0, open_until=2.0, worker="web-0")
CLOSED = BreakerNews("m@e", "closed", at=2.0, worker="web-0", generation=2.0)
UP = EndpointNews("e", up=True, at=1.0, loaded=("m",))


@asynccontextmanager
async def bus(redis_url: str, hear: Callable[[StateNews], None]) -> AsyncIterator[StateBus]:
    made = StateBus(redis_url, hear)
    tasks = [asyncio.create_task(made.listen()), asyncio.create_task(made.speak())]
    try:
        yield made
    finally:
        await waiting.end(tasks)


async def subscribed(redis_url: str, listeners: int) -> None:
    """Return when so many listen."""
    with redis.Redis.from_url(redis_url) as client:
        await soon(lambda: client.pubsub_numsub(STATE_CHANNEL)[0][1] == listeners, 5)


async def test_what_one_tells_the_other_hears(redis_url: str) -> None:
    heard: list[StateNews] = []
    async with bus(redis_url, unheard) as one, bus(redis_url, heard.append):
        await subscribed(redis_url, 2)
        one.tell(OPEN)
        one.tell(UP)
        # Twice, if they were told between subscribing and reading; never not at all.
        await soon(lambda: set(heard) == {OPEN, UP})


async def test_a_late_listener_hears_the_last_of_each_kind(redis_url: str) -> None:
    heard: list[StateNews] = []
    async with bus(redis_url, unheard) as one:
        await subscribed(redis_url, 1)
        for news in (OPEN, UP, CLOSED):
            one.tell(news)
        with redis.Redis.from_url(redis_url) as client:
            await soon(lambda: client.exists("ai-orchestra:state:last") == 1)
        await asyncio.sleep(0.1)
        async with bus(redis_url, heard.append):
            await soon(lambda: len(heard) >= 2)
    assert sorted(heard, key=lambda news: news.key) == [CLOSED, UP]


async def test_what_is_not_understood_is_passed_over(redis_url: str) -> None:
    heard: list[StateNews] = []
    async with bus(redis_url, heard.append) as one:
        await subscribed(redis_url, 1)
        with redis.Redis.from_url(redis_url) as client:
            for raw in (b"", b"\xff", b"\x81\xa4type\xa5other", b"\xc0"):
                client.publish(STATE_CHANNEL, raw)
        one.tell(UP)
        await soon(lambda: set(heard) == {UP})


async def test_without_redis_telling_never_waits_and_never_grows() -> None:
    made = StateBus("redis://127.0.0.1:1/0", unheard)
    for _ in range(5000):
        made.tell(UP)
    assert made._outbox.qsize() == 1000


class HeldUp(redis.asyncio.Redis):
    """A client whose connecting takes long, and whose words do now and then."""

    said = 0

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self.said += 1
        # Connecting is part of the first word.
        await asyncio.sleep(0.4 if self.said in (1, CLOCK_LOOKS) else 0)
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


async def test_a_busy_machine_does_not_put_the_fleets_clock_wrong(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StateBus, "_client", lambda self: HeldUp.from_url(redis_url))
    async with bus(redis_url, unheard) as one:
        await subscribed(redis_url, 1)
        with redis.Redis.from_url(redis_url) as client:
            seconds, micros = client.time()
        assert abs(seconds + micros / 1e6 - one.fleet_time()) < 0.1

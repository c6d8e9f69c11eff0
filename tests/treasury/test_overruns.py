"""Answers beyond what was held for them: logged once an hour, and summed over the workers."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import redis as plain_redis
from django.test import Client

from routing.engine.policy import Candidate
from routing.lanes.overruns import Overruns
from telemetry import overrun_news
from telemetry.database import AsyncConnection
from telemetry.offering_health import NewsBoard
from telemetry.overrun_news import OverrunNews, overruns
from telemetry.redis_names import STATE_LAST
from telemetry.state_news import encode
from tests.lanes.stage import CHAT
from tests.lanes.test_service import plane
from tests.providers.upstream import upstream
from tests.treasury.fleet import budget, limited, of_openai, ship, standing, working
from tests.treasury.test_counts import saying
from tests.treasury.test_refusal import by_token
from tests.waiting import soon

PATH = "/api/v1/ai/resources/metrics"
SECRET = "a prompt that is nobody's business"
GREEDY = {"prompt_tokens": 5, "completion_tokens": 5000}


@pytest.mark.parametrize("stream", [False, True])
async def test_what_costs_more_than_was_held_is_counted_and_logged_without_content(
    database: AsyncConnection,
    redis_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    stream: bool,
) -> None:
    async with upstream(saying(GREEDY, stream=stream)) as server:
        policy = of_openai(limited(server.url, [budget("1")], by_token("0.001")))
        async with working(tmp_path, "web-0", policy, redis_url) as worker:
            ledger = worker.stage.runtime.ledger
            body = {
                "model": "alpha:1b", "messages": [{"role": "user", "content": SECRET}],
                "max_tokens": 5, "stream": stream,
            }  # fmt: skip
            for asked in (1, 2):
                assert (await worker.stage.post(CHAT, body)).status == 200
                assert ledger.overruns == asked
            beyond = ledger.overrun_nusd
    await ship(tmp_path)
    assert beyond > 0
    found = await database.execute("SELECT overrun_nusd FROM routing_budgetwindow")
    ((of_window,),) = await found.fetchall()
    # Part of it, what was leased ahead of need may have paid.
    assert 0 < of_window <= beyond
    assert (await standing(database))[2] == 0
    (line,) = [r.message for r in caplog.records if "overran a budget's hold" in r.message]
    assert "Endpoint 'sim' overran a budget's hold: model 'alpha:1b' charged $0.00" in line
    assert SECRET not in caplog.text


def candidate(model: str, endpoint: str) -> Candidate:
    return cast("Candidate", SimpleNamespace(model_name=model, endpoint_name=endpoint))


def test_each_endpoint_is_told_of_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    told = Overruns(lambda: now)
    one, other = candidate("m", "here"), candidate("m", "elsewhere")
    for _ in range(3):
        told.costly(one, 5)
        told.incredible(one)
    told.incredible(other)
    assert len(caplog.records) == 2
    assert "counted what cannot be true; all that was held" in caplog.records[1].message
    now += 3599
    told.costly(one, 5)
    assert len(caplog.records) == 2
    now += 1
    told.incredible(one)
    assert len(caplog.records) == 3


def test_the_sum_is_of_workers_that_were_heard_of_lately() -> None:
    news = [OverrunNews("a", 1000.0, 3, 10**9), OverrunNews("b", 1170.0, 4, 5 * 10**8)]
    assert overruns(news, 1180.0) == {"count": 7, "overrunUsd": 1.5, "workers": 2}
    assert overruns(news, 1181.0) == {"count": 4, "overrunUsd": 0.5, "workers": 1}
    assert overruns([], 0.0) == {"count": 0, "overrunUsd": 0.0, "workers": 0}


async def test_workers_tell_what_they_counted(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("routing.lanes.service.AGAIN_S", 0.3)

    def told() -> dict[str, OverrunNews]:
        with plain_redis.Redis.from_url(redis_url) as client:
            return NewsBoard.from_messages(
                cast("dict[bytes, bytes]", client.hgetall(STATE_LAST)).values()
            ).overruns

    async with (
        plane(redis_url, tmp_path, "web-0") as one,
        plane(redis_url, tmp_path, "web-1") as two,
    ):
        for made, beyond in ((one, 5), (one, 2), (two, 1)):
            made.runtime.ledger.overrun(beyond)
        await soon(lambda: overruns(told().values())["count"] == 3, 5)
        assert overruns(told().values())["overrunUsd"] == 8e-9
        first = {worker: news.at for worker, news in told().items()}
        two.runtime.ledger.disbelieve()
        await soon(lambda: overruns(told().values())["count"] == 4, 5)
        # Also who has nothing new says so again.
        await soon(lambda: all(told()[worker].at > at for worker, at in first.items()), 5)
    assert len(first) == 2


@pytest.mark.django_db
def test_operators_see_the_sum(client: Client, redis_url: str) -> None:
    with plain_redis.Redis.from_url(redis_url) as store:
        now = time.time()
        for worker, at_s in (("a", now), ("b", now - 30), ("dead", now - 1000)):
            news = OverrunNews(worker, at_s, 2, 10**9)
            store.hset(STATE_LAST, news.key, encode(news))
    assert client.get(PATH).json()["overruns"] == {"count": 4, "overrunUsd": 2.0, "workers": 2}
    assert overrun_news.FRESH_S < 1000

"""Upstreams whose counts cannot be true: the hold is charged, and nothing is learned from them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from routing.lanes.runtime import Runtime
from telemetry.database import AsyncConnection
from tests.cast import ALPHA
from tests.lanes.stage import CHAT, ROUTE, Heard
from tests.providers.upstream import Behaviour, answer, streamed, upstream
from tests.treasury.fleet import budget, limited, of_openai, ship, standing, working
from tests.treasury.test_refusal import CHATTING, by_token

HUNDREDFOLD = 100 * 8192
REFUND = {"prompt_tokens": -100_000, "completion_tokens": 1}
WRONG: list[dict[str, Any]] = [
    REFUND,
    {"prompt_tokens": 1, "completion_tokens": -5},
    {"prompt_tokens": 10**20, "completion_tokens": 1},
    {"prompt_tokens": 5, "completion_tokens": 10**15},
    {"prompt_tokens": HUNDREDFOLD + 1, "completion_tokens": 1},
    {"prompt_tokens": 5, "completion_tokens": HUNDREDFOLD + 1},
]


def saying(usage: dict[str, Any], *, stream: bool) -> Behaviour:
    """Answer `hi` as OpenAI's protocol has it, with this usage."""
    if not stream:
        choice = {"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        return answer(msgspec.json.encode({"choices": [choice], "usage": usage}))
    choice = {"delta": {"content": "hi"}, "finish_reason": "stop"}
    told = ({"choices": [choice]}, {"choices": [], "usage": usage})
    events = [b"data: %s\n\n" % msgspec.json.encode(one) for one in told]
    return streamed(*events, b"data: [DONE]\n\n")


@asynccontextmanager
async def counting(
    spool: Path, usage: dict[str, Any], *, stream: bool, redis_url: str
) -> AsyncIterator[tuple[Runtime, Callable[[], Awaitable[Heard]]]]:
    """A worker with one budget and an upstream that counts so, and what asks it once."""
    async with upstream(saying(usage, stream=stream)) as server:
        policy = of_openai(limited(server.url, [budget("1")], by_token("0.001")))
        async with working(spool, "web-0", policy, redis_url) as worker:
            body = {**CHATTING, "max_tokens": 50, "stream": stream}
            yield worker.stage.runtime, partial(worker.stage.post, CHAT, body)
    await ship(spool)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", WRONG)
async def test_a_count_that_cannot_be_true_is_charged_what_was_held(
    database: AsyncConnection, redis_url: str, tmp_path: Path, usage: dict[str, Any], stream: bool
) -> None:
    async with counting(tmp_path, usage, stream=stream, redis_url=redis_url) as (runtime, ask):
        for asked in (1, 2):
            assert (await ask()).status == 200
            assert runtime.ledger.overruns == asked
        (purse,) = runtime.ledger.purses.values()
        assert runtime.tokens.excess("alpha:1b") == 0
    found = await database.execute(
        "SELECT cost_nusd, usage_estimated FROM telemetry_orchestratorrequest"
    )
    one, two = await found.fetchall()
    # 50 tokens of an answer, and the prompt at most.
    assert one == two
    assert one[0] > 50 * 1000
    assert one[1] is True
    assert (purse.held, purse.charged) == (0, 2 * one[0])
    assert (await standing(database))[1:] == (purse.charged, 0)


HALF: list[dict[str, Any]] = [
    {},
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"completion_tokens": 1},
    {"prompt_tokens": 5},
    {"prompt_tokens": None, "completion_tokens": 1},
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", HALF)
async def test_half_a_count_is_charged_as_none(
    database: AsyncConnection, redis_url: str, tmp_path: Path, usage: dict[str, Any], stream: bool
) -> None:
    async with counting(tmp_path, usage, stream=stream, redis_url=redis_url) as (runtime, ask):
        assert (await ask()).status == 200
        (purse,) = runtime.ledger.purses.values()
    found = await database.execute(
        "SELECT cost_nusd, usage_estimated FROM telemetry_orchestratorrequest"
    )
    ((cost, estimated),) = await found.fetchall()
    # At least the prompt's allowance, which no count of the upstream's replaces.
    assert cost > 64 * 1000
    assert estimated is True
    assert (purse.held, purse.charged) == (0, cost)


async def test_an_embedding_of_no_tokens_was_not_counted(
    database: AsyncConnection, redis_url: str, tmp_path: Path
) -> None:
    vectors = answer(msgspec.json.encode({"model": "alpha:1b", "embeddings": [[0.5]]}))
    async with upstream(vectors) as server:
        reader = msgspec.structs.replace(ALPHA, capabilities=("embedding",))
        policy = limited(server.url, [budget("1")], by_token("0.001"), models=(reader,))
        async with working(tmp_path, "web-0", policy, redis_url) as worker:
            body = {"taskType": "embedding", "prompt": "hello"}
            assert (await worker.stage.post(ROUTE, body)).status == 200
    await ship(tmp_path)
    assert (await standing(database))[1] > 0

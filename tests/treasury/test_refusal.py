"""What a caller sees of budgets: refusals, stand-ins, charges, streams that end with the money."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from routing.engine.catalog import (
    DEFAULT_PROFILES,
    BudgetSpec,
    ChainSpec,
    PolicyDocument,
    PriceSpec,
)
from routing.engine.money import MOST_NUSD
from routing.engine.purse import Purse
from routing.treasury import statements
from telemetry.database import AsyncConnection
from tests.cast import ALPHA, BETA, CATALOGUE, document, priced
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.lanes.stage import CHAT, ROUTE, at
from tests.treasury.fleet import LONG_AGO, Worker, budget, each, limited, ship, standing, working

CENT = 10**7
Start = Callable[..., Awaitable[Worker]]
OF_ALPHA = {"for_model": "alpha:1b"}
CHATTING = {"model": "alpha:1b", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def start(database: AsyncConnection, redis_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Return a function that starts one worker under a policy."""
    async with AsyncExitStack() as stack:

        async def begin(policy: PolicyDocument, **desk: Any) -> Worker:
            return await stack.enter_async_context(
                working(tmp_path, "web-0", policy, redis_url, **desk)
            )

        yield begin


def by_token(usd_per_1k: str, model: str = "alpha:1b") -> PriceSpec:
    price = Decimal(usd_per_1k)
    return PriceSpec(
        model=model, valid_from=LONG_AGO, input_per_1k_usd=price, output_per_1k_usd=price
    )


def two(url: str, *budgets: BudgetSpec, **more: Any) -> PolicyDocument:
    """A dear model that is the better one, and one that costs nothing."""
    base = document((ALPHA, priced(BETA, "0")), (at(url),))
    told = {"budgets": budgets, "prices": (each("0.01"),), "version": 1, **more}
    return replace(base, **told)


async def test_a_refusal_names_the_budget_and_when_it_begins_anew(
    start: Start, host: SimulatedHost
) -> None:
    worker = await start(limited(host.url, [budget("0.015", "team")], each("0.01")))
    assert (await worker.ask()).status == 200
    refused = await worker.ask()
    assert refused.status == 402
    problem = refused.json
    assert problem["code"] == "budget_exhausted"
    told = problem["budget"]
    assert (told["name"], told["limitUsd"], told["neededUsd"]) == ("team", 0.015, 0.01)
    assert told["remainingUsd"] == 0.005
    assert told["resetsAt"].startswith("20")
    assert int(refused.headers["retry-after"]) >= 1
    record = worker.stage.records()[-1]
    assert (record.status, record.error_type, record.charges) == (402, "budget_exhausted", ())


async def test_openais_clients_see_insufficient_quota(start: Start, host: SimulatedHost) -> None:
    worker = await start(limited(host.url, [budget("0", "none")], each("0.01")))
    heard = await worker.stage.post(CHAT, CHATTING)
    assert heard.status == 402
    assert heard.json["error"]["type"] == "insufficient_quota"
    assert heard.json["error"]["code"] == "budget_exhausted"


@pytest.mark.parametrize(("action", "status"), [("refuse", 402), ("prefer_free", 200)])
async def test_what_stands_in_is_said_by_the_budget(
    start: Start, host: SimulatedHost, action: str, status: int
) -> None:
    worker = await start(two(host.url, budget("0.01", when_exhausted=action)))
    first = await worker.ask()
    assert (first.status, first.json["selectedModel"]) == (200, "alpha:1b")
    for _ in range(3):
        heard = await worker.ask()
        assert heard.status == status
        if status == 200:
            assert heard.json["selectedModel"] == "beta:1b"
            assert heard.json["fallbackUsed"] is False or heard.json["costUsd"] == 0


async def test_a_model_without_a_price_is_refused_and_never_free(
    start: Start, host: SimulatedHost
) -> None:
    base = document((priced(ALPHA, None),), (at(host.url),))
    worker = await start(replace(base, budgets=(budget("5"),), version=1))
    heard = await worker.ask()
    assert (heard.status, heard.json["code"]) == (402, "price_unknown")
    assert heard.json["candidates"][0]["reason"] == "price_unknown"


@pytest.mark.parametrize(("told", "status"), [({"for_task": "completion"}, 402), (OF_ALPHA, 200)])
async def test_a_named_model_without_a_price_is_replaced_by_its_own_chain_only(
    start: Start, host: SimulatedHost, told: dict[str, Any], status: int
) -> None:
    chain = ChainSpec(name="then", models=("beta:1b",), **told)
    base = document((priced(ALPHA, None), BETA), (at(host.url),), chains=(chain,))
    worker = await start(replace(base, budgets=(budget("5"),), version=1))
    heard = await worker.stage.post(CHAT, CHATTING)
    assert heard.status == status
    if status == 200:
        assert heard.json["model"] == "beta:1b"
    else:
        assert heard.json["error"]["code"] == "price_unknown"


async def test_the_answers_tokens_are_charged_and_the_rest_is_free_again(
    start: Start, host: SimulatedHost, database: AsyncConnection, tmp_path: Path
) -> None:
    worker = await start(limited(host.url, [budget("1")], by_token("0.001")))
    heard = await worker.ask(requirements={"maxTokens": 8})
    metrics = heard.json["metrics"]
    cost = (metrics["promptTokens"] + metrics["tokensGenerated"]) * 1000
    assert heard.json["costUsd"] == cost / 1e9
    (purse,) = worker.stage.runtime.ledger.purses.values()
    assert (purse.held, purse.charged) == (0, cost)
    await ship(tmp_path)
    assert (await standing(database))[1] == cost


async def test_a_budgeted_callers_answer_is_always_limited_upstream(
    start: Start, host: SimulatedHost
) -> None:
    worker = await start(limited(host.url, [budget("100")], by_token("0.001")))
    need = worker.stage.runtime
    seen: list[int | None] = []
    candidate = need.policy.candidates[0]
    provider = need.provider(candidate)
    whole = provider.complete

    async def complete(call: Any) -> Any:
        seen.append(call.max_tokens)
        return await whole(call)

    provider.complete = complete  # type: ignore[method-assign]
    assert (await worker.ask()).status == 200
    assert seen == [4096]


async def test_a_caller_who_leaves_is_charged_and_holds_nothing(
    start: Start, host: SimulatedHost
) -> None:
    host.fail("delay", delay_ms=2000)
    worker = await start(limited(host.url, [budget("1")], each("0.01")))
    asking = asyncio.create_task(worker.ask())
    async with asyncio.timeout(5):
        while not worker.stage.runtime.ledger.purses:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (purse,) = worker.stage.runtime.ledger.purses.values()
        while not purse.held:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (purse.held, purse.charged) == (0, CENT)
    assert worker.stage.record().cost_nusd == CENT


@pytest.mark.parametrize("lane", [ROUTE, CHAT])
async def test_who_leaves_a_silent_stream_is_charged_all_it_may_have_written(
    start: Start, host: SimulatedHost, lane: str
) -> None:
    host.fail("delay", delay_ms=3000)
    worker = await start(limited(host.url, [budget("1")], by_token("0.001")))
    body: dict[str, Any] = {**CHATTING, "max_tokens": 400}
    if lane == ROUTE:
        body = {"taskType": "completion", "prompt": "hello", "requirements": {"maxTokens": 400}}
    asking = asyncio.create_task(worker.stage.post(lane, {**body, "stream": True}))
    async with asyncio.timeout(5):
        while not worker.stage.runtime.state.live[0].in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    (purse,) = worker.stage.runtime.ledger.purses.values()
    held = purse.held
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert held > 400_000
    assert (purse.held, purse.charged) == (0, held)
    assert worker.stage.record().cost_nusd == held


@pytest.mark.parametrize(
    ("fault", "cents"), [({"kind": "http_error", "status": 500}, 1), ({"kind": "error_line"}, 5)]
)
async def test_failed_attempts_are_charged_what_they_may_have_cost(
    start: Start, host: SimulatedHost, fault: dict[str, Any], cents: int
) -> None:
    """An error status costs nothing; an error within an answer may come at its end, both times."""
    chain = ChainSpec(name="then", models=("beta:1b",), for_model="alpha:1b")
    base = document((ALPHA, BETA), (at(host.url),), chains=(chain,))
    prices = (each("0.02"), each("0.01", "beta:1b"))
    worker = await start(replace(base, budgets=(budget("1"),), prices=prices, version=1))
    kind = fault.pop("kind")
    host.fail(kind, model="alpha:1b", **fault)
    heard = await worker.ask()
    assert (heard.status, heard.json["selectedModel"]) == (200, "beta:1b")
    record = worker.stage.record()
    assert record.cost_nusd == cents * CENT
    assert sum(charge.nusd for charge in record.charges) == record.cost_nusd
    (purse,) = worker.stage.runtime.ledger.purses.values()
    assert (purse.held, purse.charged) == (0, record.cost_nusd)


async def test_an_answer_that_no_budget_counts_costs_all_the_same(
    start: Start, host: SimulatedHost
) -> None:
    """The budget is of the model that failed; who answered is none of its business."""
    chain = ChainSpec(name="then", models=("beta:1b",), for_model="alpha:1b")
    base = document((ALPHA, BETA), (at(host.url),), chains=(chain,))
    prices = (each("0.02"), each("0.01", "beta:1b"))
    of_alpha = budget("1", scope="model", subject="alpha:1b")
    worker = await start(replace(base, budgets=(of_alpha,), prices=prices, version=1))
    host.fail("error_line", model="alpha:1b")
    heard = await worker.ask()
    assert (heard.status, heard.json["selectedModel"]) == (200, "beta:1b")
    assert heard.json["costUsd"] == 0.05
    record = worker.stage.record()
    assert (record.cost_nusd, record.cost_known) == (5 * CENT, True)
    assert sum(charge.nusd for charge in record.charges) == 4 * CENT
    (purse,) = worker.stage.runtime.ledger.purses.values()
    assert (purse.held, purse.charged) == (0, 4 * CENT)


@pytest.mark.parametrize("lane", [ROUTE, CHAT])
async def test_a_stream_that_outruns_its_hold_ends_well_formed(
    start: Start, host: SimulatedHost, lane: str
) -> None:
    worker = await start(limited(host.url, [budget("1")], by_token("0.001")))
    runtime = worker.stage.runtime
    provider = runtime.provider(runtime.policy.candidates[0])
    streamed = provider.stream

    def stream(call: Any) -> Any:
        # An upstream that heeds no limit.
        return streamed(replace(call, max_tokens=None))

    provider.stream = stream  # type: ignore[method-assign]
    if lane == ROUTE:
        body = {"taskType": "completion", "prompt": "hello", "stream": True}
        body |= {"requirements": {"maxTokens": 3}}
    else:
        body = {**CHATTING, "stream": True, "max_tokens": 3}
    heard = await worker.stage.post(lane, body)
    assert heard.status == 200
    if lane == CHAT:
        *_, last, notice, end, _ = heard.body.split(b"\n\n")
        assert b'"finish_reason":"length"' in last
        assert (notice, end) == (b": cut off at max_tokens", b"data: [DONE]")
    else:
        assert b'"finishReason":"length"' in heard.body
        assert b"cut off at the tokens that were asked and paid for" in heard.body
    record = worker.stage.record()
    (purse,) = runtime.ledger.purses.values()
    assert record.success
    assert (purse.held, purse.charged) == (0, record.cost_nusd)
    assert runtime.ledger.overruns == 0


async def test_without_postgresql_what_is_leased_is_spent_and_then_nobody_can_say(
    start: Start, host: SimulatedHost
) -> None:
    worker = await start(limited(host.url, [budget("1")], each("0.01")))
    assert (await worker.ask()).status == 200

    async def away() -> Any:
        raise OSError("away")

    worker.desk._connect = away
    await worker.desk._disconnect()
    (purse,) = worker.stage.runtime.ledger.purses.values()
    while purse.free >= CENT:
        assert (await worker.ask()).status == 200
    heard = await worker.ask()
    assert (heard.status, heard.json["code"]) == (503, "budget_unreachable")


async def test_postgresql_that_goes_while_a_request_waits_does_not_make_a_budget_exhausted(
    start: Start, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await start(limited(host.url, [budget("1")], each("0.01")))
    assert (await worker.ask()).status == 200
    (purse,) = worker.stage.runtime.ledger.purses.values()
    said: list[statements.Grant] = []

    async def goes(connection: Any, purse: Purse, **more: Any) -> Any:
        if said:
            raise psycopg.OperationalError("away")
        said.append(statements.Grant(0, purse.granted, purse.limit, 0, 0))
        return said[0]

    monkeypatch.setattr(statements, "grant", goes)
    while purse.free >= CENT:
        assert (await worker.ask()).status == 200
    said.clear()
    heard = await worker.ask()
    assert said
    assert (heard.status, heard.json["code"]) == (503, "budget_unreachable")


async def test_others_who_are_always_faster_do_not_make_a_budget_exhausted(
    start: Start, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await start(limited(host.url, [budget("1000")], each("0.01")))
    assert (await worker.ask()).status == 200
    (purse,) = worker.stage.runtime.ledger.purses.values()
    tell = worker.desk._tell

    def taken(purse: Purse) -> None:
        purse.free = min(purse.free, 0)
        tell(purse)

    monkeypatch.setattr(worker.desk, "_tell", taken)
    taken(purse)
    heard = await worker.ask()
    assert (heard.status, heard.json["code"]) == (503, "budget_unreachable")
    assert purse.granted > 2 * CENT


def dearest(url: str, *budgets: BudgetSpec) -> PolicyDocument:
    """A model whose longest answer costs more than PostgreSQL's bigint holds, and a cheap one."""
    vast = replace(ALPHA, context_length=100_000_000)
    prices = (by_token("1000000"), each("0.01", "beta:1b"))
    base = document((vast, BETA), (at(url),))
    return replace(base, budgets=budgets, prices=prices, version=1)


@pytest.mark.parametrize("usd", ["1", "99999999999"])
async def test_a_call_that_nobody_can_pay_is_refused_and_stands_in_nobodys_way(
    start: Start, host: SimulatedHost, usd: str
) -> None:
    worker = await start(dearest(host.url, budget(usd)))
    huge = {**CHATTING, "max_tokens": 10_000_000}
    small = {**CHATTING, "model": "beta:1b"}
    sent = [worker.stage.post(CHAT, body) for body in (huge, small, huge, small)]
    assert [one.status for one in await asyncio.gather(*sent)] == [402, 200, 402, 200]


async def test_what_a_soft_budget_counts_has_an_end(
    start: Start, host: SimulatedHost, database: AsyncConnection, tmp_path: Path
) -> None:
    worker = await start(dearest(host.url, budget("1", hard=False)))
    host.fail("delay", delay_ms=3000)
    huge = {**CHATTING, "max_tokens": 10_000_000}
    asking = asyncio.create_task(worker.stage.post(CHAT, huge))
    async with asyncio.timeout(5):
        while not worker.stage.runtime.state.live[0].in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await ship(tmp_path)
    assert (await standing(database))[1] == MOST_NUSD


async def test_what_postgresql_refuses_does_not_make_it_away(
    start: Start, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await start(limited(host.url, [budget("1")], each("0.01")))
    grant = statements.grant

    async def refuses(connection: Any, purse: Purse, **more: Any) -> Any:
        monkeypatch.setattr(statements, "grant", grant)
        raise psycopg.errors.NumericValueOutOfRange("bigint out of range")

    monkeypatch.setattr(statements, "grant", refuses)
    assert (await worker.ask()).status == 200
    assert worker.desk._away_at == float("-inf")


async def test_a_raised_limit_counts_at_once_and_a_lowered_one_too(
    start: Start, host: SimulatedHost
) -> None:
    policy = limited(host.url, [budget("0.01")], each("0.01"))
    worker = await start(policy)
    assert [(await worker.ask()).status for _ in range(2)] == [200, 402]
    raised = replace(policy, budgets=(budget("0.02"),), version=2)
    worker.stage.runtime.adopt(raised)
    assert [(await worker.ask()).status for _ in range(2)] == [200, 402]
    lowered = replace(policy, budgets=(budget("0.01"),), version=3)
    worker.stage.runtime.adopt(lowered)
    assert (await worker.ask()).status == 402


async def test_what_a_dead_worker_had_under_way_is_recorded_and_nothing_stays_held(
    start: Start, host: SimulatedHost, database: AsyncConnection, tmp_path: Path
) -> None:
    host.fail("delay", delay_ms=3000)
    worker = await start(limited(host.url, [budget("1")], each("0.01")))
    asking = asyncio.create_task(worker.ask())
    recorder = worker.stage.runtime.recorder
    async with asyncio.timeout(5):
        while not any(p.held for p in worker.stage.runtime.ledger.purses.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    # Dead, for whoever looks: the locks are gone, and nothing more is written.
    recorder._in_flight.close()
    recorder._writer.close()
    await ship(tmp_path)
    limit, spent, leased = await standing(database)
    assert (spent, leased) == (CENT, 0)
    found = await database.execute(
        "SELECT error_type, cost_nusd, success FROM telemetry_orchestratorrequest"
    )
    assert await found.fetchall() == [("worker_lost", CENT, False)]
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert limit == 10**9


async def test_a_second_attempt_holds_for_itself_and_the_loser_is_charged(
    start: Start, start_simulator: StartSimulator
) -> None:
    hosts = [start_simulator(CATALOGUE, instant=True) for _ in "ab"]
    places = tuple(at(host.url, name) for host, name in zip(hosts, "ab", strict=True))
    profile = replace(DEFAULT_PROFILES[1], hedge_percent=100)
    base = document((ALPHA,), places, profiles=(profile,))
    policy = replace(base, budgets=(budget("0.23"),), prices=(each("0.01"),), version=1)
    worker = await start(policy)
    for _ in range(20):
        assert (await worker.ask()).status == 200
    worker.stage.records()
    hosts[0].fail("delay", delay_ms=400)
    assert (await worker.ask()).status == 200
    record = worker.stage.record()
    assert [a.error_type for a in record.attempts] == ["hedge_lost", ""]
    assert record.cost_nusd == sum(charge.nusd for charge in record.charges) == 2 * CENT
    # There is money for one more attempt, so none is made beside it.
    assert (await worker.ask()).status == 200
    assert [a.error_type for a in worker.stage.record().attempts] == [""]
    (purse,) = worker.stage.runtime.ledger.purses.values()
    assert (purse.held, purse.charged) == (0, 23 * CENT)

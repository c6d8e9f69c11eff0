"""Workers that share budgets over the test run's PostgreSQL and Redis, and the shipper's half."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from routing.engine.catalog import BudgetSpec, PolicyDocument, PriceSpec
from routing.treasury import statements
from routing.treasury.desk import Desk
from telemetry import waiting
from telemetry.database import AsyncConnection, connect
from telemetry.shipper import Shipper
from telemetry.spool.layout import identity
from tests.cast import ALPHA, document
from tests.lanes.stage import Heard, Stage, at, staged

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def each(usd: str, model: str = "alpha:1b") -> PriceSpec:
    """Return a price of so many dollars for each request, whatever its length."""
    return PriceSpec(
        model=model,
        valid_from=LONG_AGO,
        input_per_1k_usd=Decimal(0),
        output_per_1k_usd=Decimal(0),
        per_request_usd=Decimal(usd),
    )


def budget(usd: str, name: str = "everything", **more: Any) -> BudgetSpec:
    """Return a hard budget for all requests of a month, unless told otherwise."""
    told = {"scope": "all", "limit_usd": Decimal(usd), **more}
    return BudgetSpec(name=name, **told)


def limited(url: str, budgets: Sequence[BudgetSpec], price: PriceSpec, **more: Any) -> Any:
    """Return a policy of one priced model at a simulator, under budgets."""
    base: PolicyDocument = document((ALPHA,), (at(url),))
    return msgspec.structs.replace(
        base, **{"budgets": tuple(budgets), "prices": (price,), "version": 1, **more}
    )


def of_openai(policy: PolicyDocument) -> PolicyDocument:
    """Return the policy with its endpoints speaking OpenAI's protocol."""
    endpoints = tuple(msgspec.structs.replace(e, provider="openai") for e in policy.endpoints)
    return msgspec.structs.replace(policy, endpoints=endpoints)


@dataclass
class Worker:
    """A stage whose ledger leases for real."""

    stage: Stage
    desk: Desk

    async def ask(self, **more: Any) -> Heard:
        body = {"taskType": "completion", "prompt": "hello", **more}
        heard: Heard = await self.stage.post("/api/v1/ai/route-request", body)
        return heard


@asynccontextmanager
async def working(
    spool: Path, name: str, policy: PolicyDocument, redis_url: str, **desk_options: Any
) -> AsyncIterator[Worker]:
    async with staged(spool, policy, worker=name) as stage:
        desk = Desk(
            stage.runtime.ledger,
            connect=partial(connect, "tests"),
            redis_url=redis_url,
            spool=identity(spool),
            holder=stage.runtime.recorder.holder,
            **desk_options,
        )
        stage.runtime.treasury = desk
        tasks = [asyncio.create_task(desk.run()), asyncio.create_task(desk.listen())]
        try:
            yield Worker(stage, desk)
        finally:
            await waiting.end(tasks)


@asynccontextmanager
async def fleet(
    spool: Path, count: int, policy: PolicyDocument, redis_url: str
) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(
                # All in one busy process: a quarter of a second is soon over.
                working(spool, f"web-{i}", policy, redis_url, patience_s=3.0)
            )
            for i in range(count)
        ]
        async with asyncio.timeout(5):
            while not all(worker.desk.hears for worker in workers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield workers


@asynccontextmanager
async def shipping(spool: Path) -> AsyncIterator[None]:
    """Ship the spool and settle, as the conductor does; what is left at the end is shipped too."""
    stop = asyncio.Event()

    async def bury(connection: AsyncConnection, holder: str) -> None:
        await statements.bury(connection, spool=identity(spool), holder=holder)

    shipper = Shipper(spool, lambda records: None, settle=statements.settle, bury=bury)
    task = asyncio.create_task(shipper.run(stop))
    try:
        yield
    finally:
        stop.set()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)


async def ship(spool: Path) -> None:
    """Ship and settle all that is in the spool now."""
    async with shipping(spool):
        pass


async def standing(database: AsyncConnection) -> tuple[int, int, int]:
    """Return (limit, spent, leased) of the one window."""
    found = await database.execute(
        "SELECT limit_nusd, spent_nusd, leased_nusd FROM routing_budgetwindow"
    )
    (row,) = await found.fetchall()
    return tuple(row)

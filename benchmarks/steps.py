"""How many steps of the interpreter a route-request takes, with and without a key's controls.

python -m benchmarks.steps [functions]: what wrk and a busy machine cannot blur. Counted are the
bytecode instructions of everything between a request's bytes and its answer's: HTTP, lane, limits,
budgets, record. Work in C (hashing, JSON, system calls) does not count, so times need wrk; nor does
what is done some twenty times a second, however many requests there are.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from benchmarks import report
from routing.engine.catalog import BudgetSpec, PolicyDocument, TenantSpec
from routing.engine.rates import Grant
from routing.lanes import rate_headers, tolls
from routing.lanes.runtime import Runtime
from routing.providers.base import Answer, Call, Usage

MANY = 10**12
REQUESTS = 20
WARM_UP = 200
SELDOM_S = 3600.0
EVENT_LOOP = str(Path(asyncio.__file__).parent)  # in service it is uvloop, which is C
TOKEN = "ao_ci_0123456789abcdefghijklmnopqrstuvwxyzABCDEF"  # noqa: S105 - opens nothing
BODY = b'{"taskType":"completion","prompt":"Hello, world!","requirements":{"maxTokens":50}}'
REQUEST = (
    b"POST /api/v1/ai/route-request HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s"
)
Count = Counter[CodeType]
Ask = Callable[[bytes], Awaitable[None]]


class Upstream:
    """Answers at once."""

    async def complete(self, call: Call) -> Answer:
        return Answer(text="The quick brown fox jumps over the lazy dog.", usage=Usage(12, 40))

    async def close(self) -> None:
        """Nothing is held."""


class Wire(asyncio.Transport):
    """A connection whose answers only have to be there."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = asyncio.Event()
        self.said = b""

    def write(self, data: Any) -> None:
        self.said = data
        self.answered.set()

    def is_closing(self) -> bool:
        return False


def policy() -> PolicyDocument:
    """Return one priced model, and a key whose tenant has two budgets and four limits."""
    from tests.cast import CLOUD, document, key_for, model, priced

    limits = {
        f"{unit}_per_{period}": MANY
        for unit in ("requests", "tokens")
        for period in ("minute", "day")
    }
    budgets = (
        BudgetSpec(
            name="tenant-month",
            scope="tenant",
            subject="acme",
            period="month",
            limit_usd=Decimal(1),
        ),
        BudgetSpec(name="key-day", scope="key", subject="ci", period="day", limit_usd=Decimal(1)),
    )
    return document(
        (priced(model("alpha:1b", "high"), "0.001"),),
        (CLOUD,),
        tenants=(TenantSpec(name="acme", **limits),),  # type: ignore[arg-type]
        keys=(key_for(TOKEN),),
        budgets=budgets,
    )


def endow(runtime: Runtime) -> None:
    """Lease to this worker whatever it may come to need, as if Redis and PostgreSQL had."""
    runtime.ledger.wallet("acme", "ci", "completion", "", time.time())
    for purse in runtime.ledger.purses.values():
        purse.granted = MANY
    passage = runtime.tolls.passage("acme", "ci")
    assert passage is not None
    now = runtime.clock()
    for lease in passage.timed:
        lease.regain()
        said = Grant(units=MANY // 4, left=MANY // 2, owed_us=0, wait_us=0, others=0, born_us=1)
        lease.hear(now, now, lease.state(now), said)


async def count(ask: Ask, request: bytes) -> Count:
    """Return how many steps each function takes for REQUESTS of them."""
    steps: Count = Counter()

    def step(frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode":
            steps[frame.f_code] += 1
        return step

    def call(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    for _ in range(WARM_UP):
        await ask(request)
    sys.settrace(call)
    for _ in range(REQUESTS):
        await ask(request)
    sys.settrace(None)
    return steps


async def measure() -> tuple[Count, Count]:
    """Return the steps of REQUESTS without and with the controls."""
    from orchestra_site.corked import CorkedHttp
    from tests.lanes.stage import staged

    # Counted, a request takes a hundred times as long.
    tolls.BOOK_S = tolls.LOOK_S = rate_headers.LOOK_EVERY_S = SELDOM_S

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with staged(Path(folder) / "spool", policy()) as stage:
            upstream = Upstream()
            stage.runtime.provider = lambda candidate: upstream  # type: ignore[method-assign, assignment, return-value]
            endow(stage.runtime)

            async def app(scope: Any, receive: Any, send: Any) -> None:
                lane = stage.door.lane_for(scope)
                assert lane is not None
                await stage.door(lane, scope, receive, send)

            config = uvicorn.Config(app, http=CorkedHttp, lifespan="off", log_config=None)
            config.load()
            http = CorkedHttp(config=config, server_state=ServerState(), app_state={})
            wire = Wire()
            http.connection_made(wire)

            async def ask(request: bytes) -> None:
                wire.answered.clear()
                # In a turn of its own, as from a socket: what asks is not to be counted.
                asyncio.get_running_loop().call_soon(http.data_received, request)
                await wire.answered.wait()
                assert wire.said.startswith(b"HTTP/1.1 200"), wire.said

            authorization = b"authorization: Bearer %s\r\n" % TOKEN.encode()
            without = await asyncio.create_task(count(ask, REQUEST % (len(BODY), b"", BODY)))
            with_ = await asyncio.create_task(
                count(ask, REQUEST % (len(BODY), authorization, BODY))
            )
            return without, with_


def where(code: CodeType) -> str:
    """Return where a function is, in a few words."""
    path = code.co_filename
    for root in (str(Path(__file__).resolve().parents[1]), *sys.path):
        path = path.removeprefix(f"{root}/") if root else path
    return f"{path.removeprefix('.venv/')}:{code.co_qualname}"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestra_site.settings")
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    without, with_ = asyncio.run(measure())
    mine = where(main.__code__).partition(":")[0]
    rows = [
        (where(code), without[code] // REQUESTS, with_[code] // REQUESTS)
        for code in {*without, *with_}
        if mine not in code.co_filename and not code.co_filename.startswith(EVENT_LOOP)
    ]
    rows.sort(key=lambda row: row[1] - row[2])
    everything = ("all", sum(row[1] for row in rows), sum(row[2] for row in rows))
    told = [everything, *rows[:most]]
    print(report.table(("steps of one request", "without", "with"), told))


if __name__ == "__main__":
    main()

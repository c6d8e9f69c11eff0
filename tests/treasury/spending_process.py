"""A worker process that spends until it is killed: `python -m tests.treasury.spending_process`.

Arguments: spool directory, name, URL of a simulator, URL of Redis. Each line of its input names a
budget, its limit in nano-dollars, the number of callers, and how many refusals each of them takes;
each caller asks until it was refused so often. Every answer is told on standard output.
"""

import asyncio
import os
import sys
from pathlib import Path

import django
from msgspec.structs import replace

from routing.engine.catalog import PolicyDocument

PRICE_USD = "0.000001"


async def spend(spool: Path, name: str, host: str, redis_url: str) -> None:
    from decimal import Decimal

    from tests.treasury.fleet import budget, each, limited, working

    def policy(version: int, line: str) -> PolicyDocument:
        title, limit = line.split()[:2]
        usd = str(Decimal(int(limit)) / 10**9)
        made: PolicyDocument = limited(host, [budget(usd, title, period="total")], each(PRICE_USD))
        return replace(made, version=version)

    async with working(spool, name, policy(1, "none 0"), redis_url) as worker:
        os.write(1, b"ready\n")
        loop, version = asyncio.get_running_loop(), 1
        while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
            version += 1
            worker.stage.runtime.adopt(policy(version, line))
            _, _, callers, patience = line.split()

            async def call(refusals: int) -> None:
                while refusals > 0:
                    status = (await worker.ask()).status
                    os.write(1, b"%d\n" % status)
                    if status != 200:
                        refusals -= 1
                        await asyncio.sleep(0.1)

            await asyncio.gather(*(call(int(patience)) for _ in range(int(callers))))
            os.write(1, b"done\n")


if __name__ == "__main__":
    django.setup()
    asyncio.run(spend(Path(sys.argv[1]), *sys.argv[2:5]))

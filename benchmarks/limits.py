"""What limits cost a request: µs for its toll, its settlement and its headers, with leases held.

python -m benchmarks.limits [rounds]: no Redis, no server; the code on a request's way alone.
"""

import asyncio
import sys
import time

from routing.coordination.rates import RateKeeper
from routing.engine.catalog import KeySpec, PolicyDocument, TenantSpec
from routing.engine.rates import Grant
from routing.lanes.rate_headers import openai_headers, rate_headers
from routing.lanes.tolls import Tolls

ROUNDS = 50_000
MOST = 10**12
ONE = {"requests_per_minute": MOST}
TIMED = {
    "requests_per_minute": MOST,
    "requests_per_day": MOST,
    "tokens_per_minute": MOST,
    "tokens_per_day": MOST,
}
ALL = TIMED | {"concurrent_streams": MOST}


def policy(tenant: dict[str, int], key: dict[str, int]) -> PolicyDocument:
    """Return a policy of one key with the given limits."""
    owner = TenantSpec(name="t", **tenant)  # type: ignore[arg-type]
    one = KeySpec(name="k", tenant="t", prefix="ao_", digest="0" * 64, **key)  # type: ignore[arg-type]
    return PolicyDocument(tenants=(owner,), keys=(one,))


async def measure(
    tenant: dict[str, int], key: dict[str, int], rounds: int, *, stream: bool
) -> tuple[float, ...]:
    """Return µs a request for: toll and settlement, native headers, OpenAI's headers."""
    clock = time.monotonic
    keeper = RateKeeper("redis://nobody", "bench", clock)
    tolls = Tolls(keeper, clock)
    tolls.adopt(policy(tenant, key))
    tolls.passage("t", "k")
    took = []
    _lease_much(keeper, clock())
    began = time.process_time()
    for _ in range(rounds):
        toll = await tolls.enter("t", "k", 600, stream=stream)
        if toll is not None:
            toll.settle(600, 150)
    took.append(time.process_time() - began)
    for told in (rate_headers, openai_headers):
        began = time.process_time()
        for _ in range(rounds):
            if (passage := tolls.passage("t", "k")) is not None:
                told(passage, clock())
        took.append(time.process_time() - began)
    return tuple(seconds / rounds * 1e6 for seconds in took)


def _lease_much(keeper: RateKeeper, now: float) -> None:
    for lease in keeper.leases:
        ask = lease.state(now)
        said = Grant(units=MOST // 2, left=MOST // 4, owed_us=0, wait_us=0, others=0, born_us=1)
        lease.hear(now, now, ask, said)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print("| limits | toll and settlement | headers | OpenAI's |\n|---|---:|---:|---:|")
    for name, tenant, key in (
        ("none", {}, {}),
        ("one, of the key", {}, ONE),
        ("four, of the key", {}, TIMED),
        ("eight, of key and tenant", TIMED, TIMED),
        ("all ten, and a stream", ALL, ALL),
    ):
        figures = asyncio.run(measure(tenant, key, rounds, stream=key is ALL))
        print(f"| {name} | " + " | ".join(f"{us:.2f} µs" for us in figures) + " |")


if __name__ == "__main__":
    main()

"""One probe in the whole fleet: who may try an open breaker whose time is up.

Without Redis every worker probes on its own, one call at a time.
"""

import asyncio
from contextlib import suppress
from functools import partial

import msgspec

from routing.coordination.breakers import Claim, ProbeClaims, release
from routing.engine.breaker import BreakerState
from routing.engine.state import OfferingState
from routing.lanes.bus import AWAY, StateBus
from routing.lanes.runtime import Runtime
from telemetry.state_news import decode

# A claim outlives the call's deadline by the time its outcome needs to be told.
MARGIN_S = 5.0
# The other one may have given up: ask again after this long.
ASK_AGAIN_S = 1.0


class FleetProbes:
    """This worker's way to the fleet's probes."""

    def __init__(self, claims: ProbeClaims, bus: StateBus) -> None:
        self._claims = claims
        self._bus = bus

    async def allow(
        self, runtime: Runtime, live: OfferingState, began: float, deadline: float
    ) -> bool:
        """Return whether the call begun on a half-open breaker is the fleet's probe."""
        breaker, token = live.breaker, self._claims.token()
        ttl_s = min(deadline - began + MARGIN_S, breaker.rules.probe_timeout_s)
        # Before asking: what was claimed is given back however the call ends, even by leaving.
        breaker.when_probe_ends(began, partial(self._give_back, live.id, token))
        try:
            claim = await self._claims.claim(live.id, breaker.generation, token, ttl_s)
        except AWAY:
            claim = Claim(granted=True)
        except BaseException:
            breaker.abandon(began)
            raise
        if not claim.granted:
            return _refused(runtime, live, began, claim)
        if breaker.state is BreakerState.OPEN:
            # News of a failure came while Redis was asked.
            breaker.abandon(began)
            return False
        return True

    async def close(self) -> None:
        await self._claims.close()

    def _give_back(self, offering: str, token: str) -> None:
        # After the news of the outcome, which is told in this same turn of the loop.
        giving = partial(release, offering=offering, token=token)
        asyncio.get_running_loop().call_soon(self._bus.then, giving)


def _refused(runtime: Runtime, live: OfferingState, began: float, claim: Claim) -> bool:
    breaker = live.breaker
    breaker.abandon(began)
    if claim.missed:
        # What a newer release wrote may be unreadable here.
        with suppress(msgspec.DecodeError):
            runtime.hear(decode(claim.missed))
    if breaker.state is not BreakerState.CLOSED:
        breaker.hold(runtime.clock() + min(claim.taken_s, ASK_AGAIN_S))
        return False
    return True

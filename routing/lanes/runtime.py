"""What one worker knows and holds: the policy, the state, the providers and the recorder.

Everything here is read and changed from the event loop's thread only.
"""

import asyncio
import logging
import os
import random
import secrets
import socket
import time
import uuid
from collections.abc import Awaitable, Callable

from routing.coordination.rates import RateKeeper
from routing.coordination.reservations import Reservations
from routing.engine.breaker import BreakerState
from routing.engine.callers import ANONYMOUS, Caller
from routing.engine.catalog import PRIORITIES, EndpointSpec, PolicyDocument
from routing.engine.errors import ConnectFailed, NotReady
from routing.engine.hedging import HedgeBudget
from routing.engine.ledger import Ledger
from routing.engine.pace import generation_ms
from routing.engine.payers import Payers
from routing.engine.policy import EMPTY_POLICY, Candidate, Policy
from routing.engine.state import EndpointState, FleetState, HostState, OfferingState
from routing.engine.tokens import TokenRatios
from routing.lanes import load_news, unloading
from routing.lanes.doorkeeper import Doorkeeper
from routing.lanes.drafts import Drafts
from routing.lanes.gate import Gate
from routing.lanes.idempotency import Idempotency
from routing.lanes.overruns import Overruns
from routing.lanes.reports import endpoints_of
from routing.lanes.till import Tab, Treasury
from routing.lanes.tolls import Tolls
from routing.providers.base import Provider
from routing.providers.registry import provider_for
from routing.providers.transport import Misconfigured
from telemetry.recorder import Recorder
from telemetry.sampler import HostSample
from telemetry.state_news import (
    BreakerNews,
    EndpointNews,
    HostNews,
    LoadNews,
    ModelHealthNews,
    StateNews,
    UnloadNews,
)

logger = logging.getLogger(__name__)

# What a caller hears; where and why is in the log.
NOT_KEPT = "Records cannot be kept: the spool is full or its disk is. Check the conductor."

LOCAL_HOST = "local"
SLOW_ANSWERS = "slow_answers"
# A replaced provider may still be answering: its connections close after the longest deadline.
RETIRE_AFTER_S = 3600.0

# Asks whether the call begun on a half-open breaker may go on, before its deadline.
AllowProbe = Callable[["Runtime", OfferingState, float, float], Awaitable[bool]]


class Runtime:
    """The data plane of one worker, without its tasks (see `service.py`)."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        resolve_secret: Callable[[str], str],
        worker: str = "",
        doorkeeper: Doorkeeper | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.recorder = recorder
        self.worker = worker
        self.doorkeeper = doorkeeper or Doorkeeper(secrets.token_bytes(32))
        # Every node may have a `web-0`, and a restarted one is another: this one is unique.
        self.identity = f"{worker}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.clock = clock
        self.wall = wall  # seconds since the epoch, for prices and periods
        self.ledger = Ledger()
        self.drafts = Drafts(worker)
        self.overruns = Overruns(clock)
        self.treasury: Treasury | None = None  # without: no hard budget pays for anything
        self.policy: Policy = EMPTY_POLICY
        self.state = FleetState()
        self.local: HostState = self.state.host(LOCAL_HOST)
        self.jitter: Callable[[], float] = random.random
        self.breaker_news: Callable[[BreakerNews], None] = _tell_nobody
        self.idempotency: Idempotency | None = None
        self.tokens = TokenRatios()
        self.hedges: dict[str, HedgeBudget] = {p: HedgeBudget() for p in PRIORITIES}
        self.ending: set[asyncio.Task[None]] = set()  # calls that nobody waits for any more
        self.fleet_time: Callable[[], float] = time.time  # Redis's clock, where there is one
        self.allow_probe: AllowProbe = _probe_alone
        self.reservations: Reservations | None = None  # without: only loaded models are used
        self.load_news: Callable[[LoadNews | UnloadNews], None] = _tell_nobody
        self.loads: dict[tuple[str, bool], asyncio.Task[None]] = {}
        self.node = socket.gethostname()
        self.gate = Gate(clock)
        self.tolls = Tolls(RateKeeper("", self.identity, clock), clock)
        self.ready = False
        self._resolve_secret = resolve_secret
        self._providers: dict[str, tuple[EndpointSpec, Provider]] = {}

    def adopt(self, document: PolicyDocument) -> None:
        """Take over a new policy; requests under way go on with the one they began with."""
        policy = Policy(document, self.wall())
        self.state.bind(policy)
        self.ledger.bind(document.budgets, document.version)
        self.drafts.clear()
        self._price(policy)
        self.policy = policy
        self._renew_providers(policy)
        self.gate.bind(policy, self.state)
        self.tolls.adopt(document)
        self.ready = True

    def admit(self) -> None:
        """Raise NotReady if new work must not start."""
        self.require_policy()
        if self.wall() >= self.policy.reprice_at_s:
            self.adopt(self.policy.document)
        if not self.recorder.admits():
            raise NotReady(NOT_KEPT)

    def require_policy(self) -> None:
        if not self.ready:
            raise NotReady("No policy is loaded yet; try again in a moment.")

    def release(self, tab: Tab) -> None:
        """Give back what was held for a call that cost nothing."""
        if tab.payers is not None:
            tab.known_nusd = 0
            self.close_tab(tab, tab.payers)

    def close_tab(self, tab: Tab, payers: Payers) -> None:
        """End what `payers` hold for a call: its cost is charged, and in a record that is kept."""
        tab.payers = None
        held, nusd = tab.bound_nusd, tab.nusd
        if not payers.settle(held, nusd):
            self.ledger.settle(payers, held, nusd)
        if nusd > held:
            self.ledger.overrun(nusd - held)
            self.overruns.costly(tab.candidate, nusd - held)
        if tab.slot >= 0:
            self.recorder.close_slot(tab.slot)

    def identify(self, authorization: bytes | None) -> Caller:
        """Return who sent this Authorization header; raises Unidentified, NotReady."""
        if authorization is None and not self.doorkeeper.required:
            return ANONYMOUS
        # Without a policy every key would seem unknown.
        self.require_policy()
        return self.doorkeeper.caller(self.policy, authorization)

    def live(self, candidate: Candidate) -> OfferingState | None:
        """Return the state of an offering, or None if the policy dropped it meanwhile."""
        return self.state.offerings.get(candidate.id)

    def provider(self, candidate: Candidate) -> Provider:
        """Return the adapter for an offering's endpoint; raises Misconfigured without one."""
        found = self._providers.get(candidate.endpoint_name)
        if found is None:
            name = candidate.endpoint_name
            raise Misconfigured(name, f"Endpoint '{name}' is gone or its key cannot be read.")
        return found[1]

    def see_local_host(self, sample: HostSample) -> None:
        host = self.local
        host.known = True
        host.available_gb = sample.available_gb
        host.total_gb = sample.total_gb
        host.press(sample.pressure)
        host.cpu_percent = sample.cpu_percent
        host.swap_percent = sample.swap_percent
        host.at = self.clock()
        if host.loads:
            host.lapse(host.at)

    def hear(self, news: StateNews) -> None:
        """Take in what the conductor, another worker or an outside service says."""
        if isinstance(news, EndpointNews):
            self._hear_endpoint(news)
        elif isinstance(news, ModelHealthNews):
            self.state.model_health(news.model, news.endpoint, healthy=news.healthy)
        elif isinstance(news, HostNews):
            self._hear_host(news)
        elif isinstance(news, LoadNews):
            load_news.hear_load(self, news)
        elif isinstance(news, UnloadNews):
            unloading.hear(self, news)
        elif isinstance(news, BreakerNews):
            self._hear_breaker(news)

    def learn(
        self,
        live: OfferingState,
        *,
        duration_ms: float,
        output_tokens: int,
        ttft_ms: float | None,
        work_ms: float = 0.0,
    ) -> None:
        """Let the averages and the breaker learn from an answer; `work_ms` is its generation."""
        queues = live.host is not None
        took_ms = generation_ms(
            duration_ms=duration_ms, ttft_ms=ttft_ms, work_ms=work_ms, queues=queues
        )
        if live.usual.judge(took_ms, output_tokens) and live.breaker.slow(self.clock()):
            self.breaker_changed(live, SLOW_ANSWERS)
        self.state.observe(
            live, duration_ms=duration_ms, output_tokens=output_tokens, ttft_ms=ttft_ms
        )
        if (candidate := self.policy.by_id.get(live.id)) is not None:
            candidate.see_speed(live.ms_per_token)

    def learn_excess(self, model: str) -> None:
        """Reckon from now on with what a model's template adds beyond the bound."""
        for candidate in self.policy.by_model.get(model, ()):
            candidate.excess_tokens = self.tokens.excess(model)

    def breaker_changed(self, offering: OfferingState, reason: str = "") -> None:
        """Tell the other workers of a breaker that opened or closed here; `reason` is a code."""
        breaker, at = offering.breaker, self.fleet_time()
        closed = breaker.state is BreakerState.CLOSED
        if closed:
            breaker.generation = max(breaker.generation, at)
        breaker.reason = reason
        self.breaker_news(
            BreakerNews(
                offering=offering.id,
                state="closed" if closed else "open",
                at=at,
                open_until=0.0 if closed else at + breaker.open_until - self.clock(),
                worker=self.identity,
                generation=breaker.generation,
                openings=breaker.openings,
                reason=reason,
            )
        )

    async def close(self) -> None:
        if self.ending:
            await asyncio.wait(self.ending, timeout=1.0)
        for load in self.loads.values():
            load.cancel()
        if self.reservations is not None:
            await self.reservations.close()
        for _, provider in self._providers.values():
            await provider.close()
        self._providers.clear()
        if self.idempotency is not None:
            await self.idempotency.close()
        self.recorder.close()

    def _hear_endpoint(self, news: EndpointNews) -> None:
        endpoint = self.state.endpoint(news.endpoint)
        endpoint.up = news.up
        load_news.see_endpoint(self, endpoint, news)
        endpoint.available = None if news.available is None else frozenset(news.available)
        endpoint.simulated = news.simulated
        endpoint.version = news.version
        endpoint.at = news.at
        if news.up:
            self._ripen(endpoint, self._to_monotonic(news.at))
        self.state.endpoint_changed(news.endpoint)
        self.gate.pump(news.endpoint)

    def _ripen(self, endpoint: EndpointState, seen_at: float) -> None:
        """Let breakers that opened on a dead server try again: somebody listens there now."""
        now = self.clock()
        for live in endpoint.offerings:
            breaker = live.breaker
            if breaker.reason == ConnectFailed.code and breaker.ripen(now, seen_at):
                self.breaker_changed(live, breaker.reason)

    def _hear_host(self, news: HostNews) -> None:
        # This host's own figures are fresher than anybody's report of them.
        if news.host == LOCAL_HOST and self.clock() - self.local.at < 1.0:
            return
        host = self.state.host(news.host)
        host.known = True
        host.available_gb, host.total_gb = news.available_gb, news.total_gb
        host.press(news.tightness)
        host.stale_after_s = news.stale_after_s
        host.cpu_percent, host.swap_percent = news.cpu_percent, news.swap_percent
        # When it was measured, not when it was heard: a new worker first hears what is long past.
        host.at = min(self._to_monotonic(news.at), self.clock())
        host.lapse(self.clock())
        if news.loaded is not None and host.fresh(self.clock()):
            for name in endpoints_of(self.policy, news):
                load_news.see_names(self, name, news.loaded, host.at)

    def _hear_breaker(self, news: BreakerNews) -> None:
        offering = self.state.offerings.get(news.offering)
        if offering is None:
            return
        now, until = self.clock(), None
        if news.state == "open":
            until = now + news.open_until - self.fleet_time()
        offering.breaker.hear(
            now,
            generation=news.generation,
            open_until=until,
            openings=news.openings,
            reason=news.reason,
        )

    def _price(self, policy: Policy) -> None:
        """Let the new policy's candidates know what was measured before it."""
        for candidate in policy.candidates:
            candidate.see_speed(self.state.live[candidate.index].ms_per_token)
            candidate.excess_tokens = self.tokens.excess(candidate.model_name)

    def _renew_providers(self, policy: Policy) -> None:
        old, self._providers = self._providers, {}
        for name, endpoint in policy.endpoints.items():
            kept = old.get(name)
            if kept is not None and kept[0] == endpoint:
                self._providers[name] = old.pop(name)
                continue
            if kept is not None:
                self._forget_endpoint(name)
            if (made := self._make_provider(endpoint)) is not None:
                self._providers[name] = (endpoint, made)
        for _, provider in old.values():
            _close_later(provider)

    def _forget_endpoint(self, name: str) -> None:
        open_ones = [
            live
            for live in self.state.live
            if live.endpoint.name == name and live.breaker.state is not BreakerState.CLOSED
        ]
        self.state.forget_endpoint(name)
        for live in open_ones:
            self.breaker_changed(live)

    def _make_provider(self, endpoint: EndpointSpec) -> Provider | None:
        try:
            key = self._resolve_secret(endpoint.api_key_ref) if endpoint.api_key_ref else ""
            return provider_for(endpoint, key)
        except (OSError, LookupError, ValueError) as exc:
            logger.warning("Endpoint '%s' cannot be used: %s", endpoint.name, exc)
            return None

    def _to_monotonic(self, epoch: float) -> float:
        return self.clock() + epoch - time.time()


def _tell_nobody(news: StateNews) -> None:
    """Without Redis each worker goes on with what it sees itself."""


async def _probe_alone(
    runtime: Runtime, live: OfferingState, began: float, deadline: float
) -> bool:
    """Without a fleet, one probe in this worker is the only one."""
    return True


def _close_later(provider: Provider) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    loop.call_later(RETIRE_AFTER_S, lambda: loop.create_task(provider.close()))

"""What one worker knows and holds: the policy, the state, the providers and the recorder.

Everything here is read and changed from the event loop's thread only.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from routing.engine.catalog import EndpointSpec, PolicyDocument
from routing.engine.errors import NotReady
from routing.engine.policy import EMPTY_POLICY, Candidate, Policy
from routing.engine.state import FleetState, HostState, OfferingState
from routing.lanes.gate import Gate
from routing.providers.base import Provider
from routing.providers.registry import provider_for
from routing.providers.transport import Misconfigured
from telemetry.recorder import Recorder
from telemetry.sampler import HostSample
from telemetry.state_news import BreakerNews, EndpointNews, HostNews, ModelHealthNews, StateNews

logger = logging.getLogger(__name__)

LOCAL_HOST = "local"
# A replaced provider may still be answering: its connections close after the longest deadline.
RETIRE_AFTER_S = 3600.0


class Runtime:
    """The data plane of one worker, without its tasks (see `service.py`)."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        resolve_secret: Callable[[str], str],
        worker: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recorder = recorder
        self.worker = worker
        self.clock = clock
        self.policy: Policy = EMPTY_POLICY
        self.state = FleetState()
        self.local: HostState = self.state.host(LOCAL_HOST)
        self.jitter: Callable[[], float] = random.random
        self.breaker_news: Callable[[BreakerNews], None] = _tell_nobody
        self.gate = Gate(clock)
        self.ready = False
        self._resolve_secret = resolve_secret
        self._providers: dict[str, tuple[EndpointSpec, Provider]] = {}

    def adopt(self, document: PolicyDocument) -> None:
        """Take over a new policy; requests under way go on with the one they began with."""
        policy = Policy(document)
        self.state.bind(policy)
        self.policy = policy
        self._renew_providers(policy)
        self.gate.bind(policy, self.state)
        self.ready = True

    def admit(self) -> None:
        """Raise NotReady if new work must not start."""
        self.require_policy()
        if not self.recorder.admits():
            raise NotReady(
                "Records cannot be kept: the spool is full or its disk is. Check the conductor."
            )

    def require_policy(self) -> None:
        if not self.ready:
            raise NotReady("No policy is loaded yet; try again in a moment.")

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
        host.pressure = sample.pressure
        host.cpu_percent = sample.cpu_percent
        host.swap_percent = sample.swap_percent
        host.at = self.clock()

    def hear(self, news: StateNews) -> None:
        """Take in what the conductor, another worker or an outside service says."""
        if isinstance(news, EndpointNews):
            self._hear_endpoint(news)
        elif isinstance(news, ModelHealthNews):
            self.state.model_health(news.model, news.endpoint, healthy=news.healthy)
        elif isinstance(news, HostNews):
            self._hear_host(news)
        elif isinstance(news, BreakerNews) and news.worker != self.worker:
            self._hear_breaker(news)

    def breaker_changed(self, offering: OfferingState) -> None:
        """Tell the other workers of a breaker that opened or closed here."""
        breaker = offering.breaker
        self.breaker_news(
            BreakerNews(
                offering=offering.id,
                state=breaker.state.value,
                at=time.time(),
                open_until=self._to_epoch(breaker.open_until),
                worker=self.worker,
            )
        )

    async def close(self) -> None:
        for _, provider in self._providers.values():
            await provider.close()
        self._providers.clear()
        self.recorder.close()

    def _hear_endpoint(self, news: EndpointNews) -> None:
        endpoint = self.state.endpoint(news.endpoint)
        endpoint.up = news.up
        endpoint.loaded = frozenset(news.loaded)
        endpoint.available = None if news.available is None else frozenset(news.available)
        endpoint.simulated = news.simulated
        endpoint.version = news.version
        endpoint.at = news.at
        self.state.endpoint_changed(news.endpoint)
        self.gate.pump(news.endpoint)

    def _hear_host(self, news: HostNews) -> None:
        # This host's own figures are fresher than anybody's report of them.
        if news.host == LOCAL_HOST and self.clock() - self.local.at < 1.0:
            return
        host = self.state.host(news.host)
        host.known = True
        host.available_gb, host.total_gb = news.available_gb, news.total_gb
        host.pressure = 1 - news.available_gb / news.total_gb if news.total_gb > 0 else 1.0
        host.cpu_percent, host.swap_percent = news.cpu_percent, news.swap_percent
        # When it was measured, not when it was heard: a new worker first hears what is long past.
        host.at = min(self._to_monotonic(news.at), self.clock())

    def _hear_breaker(self, news: BreakerNews) -> None:
        offering = self.state.offerings.get(news.offering)
        if offering is None:
            return
        if news.state == "open":
            offering.breaker.open_elsewhere(self._to_monotonic(news.open_until))
        elif news.state == "closed":
            offering.breaker.reset()

    def _renew_providers(self, policy: Policy) -> None:
        old, self._providers = self._providers, {}
        for name, endpoint in policy.endpoints.items():
            kept = old.get(name)
            if kept is not None and kept[0] == endpoint:
                self._providers[name] = old.pop(name)
                continue
            if kept is not None:
                self.state.forget_endpoint(name)
            if (made := self._make_provider(endpoint)) is not None:
                self._providers[name] = (endpoint, made)
        for _, provider in old.values():
            _close_later(provider)

    def _make_provider(self, endpoint: EndpointSpec) -> Provider | None:
        try:
            key = self._resolve_secret(endpoint.api_key_ref) if endpoint.api_key_ref else ""
            return provider_for(endpoint, key)
        except (OSError, LookupError, ValueError) as exc:
            logger.warning("Endpoint '%s' cannot be used: %s", endpoint.name, exc)
            return None

    def _to_epoch(self, monotonic: float) -> float:
        return time.time() + monotonic - self.clock()

    def _to_monotonic(self, epoch: float) -> float:
        return self.clock() + epoch - time.time()


def _tell_nobody(news: BreakerNews) -> None:
    """Without Redis each worker goes on with what it sees itself."""


def _close_later(provider: Provider) -> None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    loop.call_later(RETIRE_AFTER_S, lambda: loop.create_task(provider.close()))

"""One cold load a host: an engine that loads a model keeps those it holds from answering."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from routing.engine.need import Need
from routing.engine.policy import Candidate
from routing.engine.state import OfferingState


class Load(msgspec.Struct, eq=False):
    """The right to load one model at a host."""

    host: str
    offering: str


class Loader(Protocol):
    """Loads models before they are asked, where the engine can be told to."""

    def needs(self, candidate: Candidate, live: OfferingState) -> bool:
        """Return True if the model must be loaded first."""

    async def load(
        self, candidate: Candidate, live: OfferingState, need: Need, deadline: float
    ) -> bool:
        """Return once it is loaded; False if its host is busy with somebody else's load.

        Raises ProviderError where it cannot be loaded, TimeoutError at the deadline.
        """


class LocalLoads:
    """The loads that this worker has under way or knows of."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._under_way: dict[str, Load] = {}
        self._busy_until: dict[str, float] = {}

    def busy(self, host: str) -> bool:
        """Return True if nothing may begin to load there now."""
        return host in self._under_way or self._clock() < self._busy_until.get(host, 0.0)

    def begin(self, host: str, offering: str) -> Load:
        self._under_way[host] = load = Load(host, offering)
        return load

    def under_way(self, host: str) -> Load | None:
        return self._under_way.get(host)

    def end(self, load: Load) -> None:
        if self._under_way.get(load.host) is load:
            del self._under_way[load.host]

    def hold(self, host: str, for_s: float) -> None:
        """Begin nothing there for a while: somebody else loads."""
        self._busy_until[host] = self._clock() + for_s

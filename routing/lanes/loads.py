"""One cold load a host: an engine that loads a model keeps those it holds from answering."""

from collections.abc import Callable

import msgspec

from routing.engine.decide import Need
from routing.engine.policy import Candidate
from routing.engine.state import OfferingState


class Load(msgspec.Struct, eq=False):
    """The right to load one model at a host."""

    host: str
    offering: str


class LocalLoads:
    """The loads of this worker; `confirm` is where all workers and nodes have their say."""

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

    def end(self, load: Load) -> None:
        if self._under_way.get(load.host) is load:
            del self._under_way[load.host]

    def hold(self, host: str, for_s: float) -> None:
        """Begin nothing there for a while: somebody else loads."""
        self._busy_until[host] = self._clock() + for_s

    async def confirm(
        self, load: Load, candidate: Candidate, live: OfferingState, need: Need
    ) -> bool:
        """Return False if the host is taken by another worker's load."""
        return True

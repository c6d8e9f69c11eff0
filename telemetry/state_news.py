"""State messages between the conductor and the web workers (MessagePack, tagged by `type`).

They travel on the `STATE_CHANNEL`; the last one of each `key` is kept in the hash `STATE_LAST`,
which a new worker reads once.
"""

import msgspec

from telemetry.gpu import Gpu
from telemetry.overrun_news import OverrunNews
from telemetry.pressure import Stall, pressure_of
from telemetry.queue_news import QueueNews

# Three missed reports make a host unknown, but not a pause of the network.
LEAST_STALE_S = 5.0
SILENT_STALE_S = 60.0  # of hosts that do not say how often they report


class EndpointNews(msgspec.Struct, frozen=True, tag="endpoint", tag_field="type"):
    """What the prober last saw of an endpoint."""

    endpoint: str
    up: bool
    at: float  # seconds since the epoch
    loaded: tuple[str, ...] = ()  # upstream names of the models in its memory
    available: tuple[str, ...] | None = None  # upstream names it offers; None: not known
    version: str = ""
    simulated: bool = False
    error: str = ""
    loaded_mb: tuple[float, ...] = ()  # all memory of each one in `loaded`, where it tells
    loaded_gpu_mb: tuple[float, ...] = ()  # the part of that which a GPU addresses
    loaded_ctx: tuple[int, ...] = ()  # the context each was loaded with; 0: not told

    @property
    def key(self) -> str:
        return f"endpoint:{self.endpoint}"


class HostNews(msgspec.Struct, frozen=True, tag="host", tag_field="type"):
    """Memory of a host other than the worker's own, or an outside measurement of this one."""

    host: str
    at: float
    available_gb: float
    total_gb: float
    cpu_percent: float = 0.0
    swap_percent: float = 0.0
    pressure: float | None = None  # None: what memory alone makes of it
    psi_some: float = 0.0
    psi_full: float = 0.0
    gpus: tuple[Gpu, ...] = ()
    interval_s: float = 0.0  # how often the host reports; 0: not said
    ollama_port: int = 0  # of the Ollama there that `loaded` is about; 0: not said
    loaded: tuple[str, ...] | None = None

    @property
    def tightness(self) -> float:
        """Return the pressure, 0 to 1."""
        if self.pressure is not None:
            return self.pressure
        used = 1 - self.available_gb / self.total_gb if self.total_gb > 0 else 1.0
        return pressure_of(used, Stall(self.psi_some, self.psi_full), self.swap_percent)

    @property
    def stale_after_s(self) -> float:
        """Return the age at which this says nothing any more."""
        return max(LEAST_STALE_S, 3 * self.interval_s) if self.interval_s else SILENT_STALE_S

    @property
    def key(self) -> str:
        return f"host:{self.host}"


class ModelHealthNews(msgspec.Struct, frozen=True, tag="model_health", tag_field="type"):
    """Somebody outside says a model is or is not fit for use (event `model.health_changed`)."""

    model: str
    healthy: bool
    at: float
    endpoint: str = ""  # empty: wherever it is offered
    reason: str = ""

    @property
    def key(self) -> str:
        return f"model_health:{self.model}@{self.endpoint}"


class BreakerNews(msgspec.Struct, frozen=True, tag="breaker", tag_field="type"):
    """A worker's breaker changed state. Times are seconds since the epoch, by Redis's clock."""

    offering: str  # "model@endpoint"
    state: str  # closed, open
    at: float
    open_until: float = 0.0
    worker: str = ""  # unique in the fleet
    generation: float = 0.0  # the last closing known to the teller: an older opening is void
    openings: int = 0  # in a row
    reason: str = ""  # code of the error that opened it

    @property
    def key(self) -> str:
        return f"breaker:{self.offering}"


class LoadNews(msgspec.Struct, frozen=True, tag="load", tag_field="type"):
    """A model is being loaded, or was, and what that takes; the last word is kept for new workers.

    `need_gb` and `load_ms` are what was learned so far, 0 where nothing was.
    """

    load: str  # `Candidate.load_key`
    host: str
    endpoint: str
    model: str  # as the endpoint knows it
    state: str  # loading, loaded, failed, learned
    at: float  # seconds since the epoch
    ready_at: float = 0.0  # while loading: when it should be done
    lapses_at: float = 0.0  # from when on its memory is not reserved any more
    reserved_gb: float = 0.0
    need_gb: float = 0.0
    load_ms: float = 0.0
    worker: str = ""
    node: str = ""  # whose `local` is meant

    @property
    def key(self) -> str:
        return f"load:{self.load}"


class UnloadNews(msgspec.Struct, frozen=True, tag="unload", tag_field="type"):
    """Models are to leave an endpoint's memory, so that another one has room.

    `asked` comes first: from then on nobody begins to use them, and who is using one objects. Then
    `called_off` after an objection, or `over` once they are gone or that was given up.
    """

    endpoint: str
    models: tuple[str, ...]  # as the endpoint knows them
    state: str  # asked, objected, called_off, over
    at: float  # seconds since the epoch
    lapses_at: float = 0.0  # what was asked is over by then, whatever is heard
    host: str = ""
    node: str = ""  # whose `local` is meant
    worker: str = ""

    @property
    def key(self) -> str:
        return f"unload:{self.endpoint}"


StateNews = (
    EndpointNews
    | HostNews
    | ModelHealthNews
    | BreakerNews
    | LoadNews
    | UnloadNews
    | QueueNews
    | OverrunNews
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(StateNews).decode

"""State messages between the conductor and the web workers (MessagePack, tagged by `type`).

They travel on the `STATE_CHANNEL`; the last one of each `key` is kept in the hash `STATE_LAST`,
which a new worker reads once.
"""

import msgspec

from telemetry.queue_news import QueueNews


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
    loaded_mb: tuple[float, ...] = ()  # memory of each one in `loaded`, where the endpoint tells

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
    """A worker's breaker changed state."""

    offering: str  # "model@endpoint"
    state: str  # closed, open, half-open
    at: float
    open_until: float = 0.0  # seconds since the epoch
    worker: str = ""

    @property
    def key(self) -> str:
        return f"breaker:{self.offering}"


StateNews = EndpointNews | HostNews | ModelHealthNews | BreakerNews | QueueNews

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(StateNews).decode

"""What the state news says of a model at an endpoint: is it up, loaded, held back by a breaker?"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
from redis.asyncio import Redis

from telemetry import redis_names, state_news
from telemetry.overrun_news import OverrunNews
from telemetry.queue_news import QueueNews
from telemetry.redis_client import raw_hash
from telemetry.state_news import BreakerNews, EndpointNews, HostNews, ModelHealthNews, StateNews

# The prober speaks every few seconds; older news is no news.
ENDPOINT_NEWS_AGE_S = 60.0
BREAKER_ORDER = ("closed", "half-open", "open")


@dataclass(frozen=True, slots=True)
class KnownOffering:
    """A model at an endpoint, as the catalogue has it; `upstream` is the endpoint's name for it."""

    model: str
    endpoint: str
    upstream: str
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class OfferingHealth:
    """One offering now. `up` and `offered` are None while nobody knows."""

    endpoint: str
    up: bool | None
    offered: bool | None  # the endpoint lists the model
    loaded: bool
    loaded_mb: float
    breaker: str
    open_until: float  # seconds since the epoch; 0 unless open
    simulated: bool
    banned: str  # why somebody outside calls it unfit; empty if nobody does

    @property
    def healthy(self) -> bool:
        """Return whether a request could go there; what is not known does not stand in the way."""
        return (
            self.up is not False
            and self.offered is not False
            and self.breaker != "open"
            and not self.banned
        )


@dataclass(slots=True)
class NewsBoard:
    """The last news of each kind, by what it is about."""

    endpoints: dict[str, EndpointNews] = field(default_factory=dict)
    breakers: dict[str, BreakerNews] = field(default_factory=dict)
    models: dict[tuple[str, str], ModelHealthNews] = field(default_factory=dict)
    hosts: dict[str, HostNews] = field(default_factory=dict)
    queues: dict[str, QueueNews] = field(default_factory=dict)
    overruns: dict[str, OverrunNews] = field(default_factory=dict)

    @classmethod
    def from_messages(cls, messages: Iterable[bytes]) -> "NewsBoard":
        """Read the values of `STATE_LAST`; what a newer release wrote and this one cannot read
        is left out."""
        board = cls()
        for message in messages:
            try:
                board.add(state_news.decode(message))
            except msgspec.DecodeError:
                continue
        return board

    def add(self, news: StateNews) -> None:
        """Put up one message."""
        match news:
            case EndpointNews():
                self.endpoints[news.endpoint] = news
            case BreakerNews():
                self.breakers[news.offering] = news
            case ModelHealthNews():
                self.models[news.model, news.endpoint] = news
            case HostNews():
                self.hosts[news.host] = news
            case QueueNews():
                self.queues[news.worker] = news
            case OverrunNews():
                self.overruns[news.worker] = news

    def has_news_of(self, endpoint: str, now: float | None = None) -> bool:
        """Return whether somebody looked at an endpoint lately."""
        now = time.time() if now is None else now
        news = self.endpoints.get(endpoint)
        return news is not None and news.at >= now - ENDPOINT_NEWS_AGE_S

    def health(self, offering: KnownOffering, now: float | None = None) -> OfferingHealth:
        """Return what is known of an offering at `now` (seconds since the epoch)."""
        now = time.time() if now is None else now
        news = (
            self.endpoints[offering.endpoint] if self.has_news_of(offering.endpoint, now) else None
        )
        breaker, open_until = self._breaker(offering, now)
        loaded = _find(news.loaded, offering.upstream) if news else None
        return OfferingHealth(
            endpoint=offering.endpoint,
            up=news.up if news else None,
            offered=_offered(news, offering.upstream),
            loaded=loaded is not None,
            loaded_mb=_megabytes(news, loaded),
            breaker=breaker,
            open_until=open_until,
            simulated=offering.simulated or bool(news and news.simulated),
            banned=self._ban(offering),
        )

    def _breaker(self, offering: KnownOffering, now: float) -> tuple[str, float]:
        news = self.breakers.get(f"{offering.model}@{offering.endpoint}")
        if news is None or news.state not in BREAKER_ORDER:
            return "closed", 0.0
        if news.state == "open" and 0 < news.open_until <= now:
            # Its time is up: the next request is let through as a probe.
            return "half-open", 0.0
        return news.state, news.open_until if news.state == "open" else 0.0

    def _ban(self, offering: KnownOffering) -> str:
        for endpoint in (offering.endpoint, ""):
            news = self.models.get((offering.model, endpoint))
            if news is not None:
                return "" if news.healthy else news.reason or "reported as unhealthy"
        return ""


async def read_board(redis: Redis) -> NewsBoard:
    """Return the board as Redis has it; raises RedisError where it is away."""
    return NewsBoard.from_messages((await raw_hash(redis, redis_names.STATE_LAST)).values())


def best_breaker(offerings: Iterable[OfferingHealth]) -> str:
    """Return the breaker state that lets the most through; closed where there is no offering."""
    states = [o.breaker for o in offerings]
    return min(states, key=BREAKER_ORDER.index, default="closed")


def memory_by_model(
    offerings: Iterable[KnownOffering], board: NewsBoard, now: float | None = None
) -> dict[str, float]:
    """Return the megabytes that endpoints use for each model they have loaded."""
    used: dict[str, float] = {}
    for offering in offerings:
        megabytes = board.health(offering, now).loaded_mb
        if megabytes:
            used[offering.model] = used.get(offering.model, 0.0) + megabytes
    return used


def _offered(news: EndpointNews | None, upstream: str) -> bool | None:
    if news is None or news.available is None:
        return None
    return _find(news.available, upstream) is not None


def _find(names: tuple[str, ...], upstream: str) -> int | None:
    wanted = _plain(upstream)
    return next((i for i, name in enumerate(names) if _plain(name) == wanted), None)


def _plain(name: str) -> str:
    # Ollama lists `llama3` as `llama3:latest`.
    return name.removesuffix(":latest")


def _megabytes(news: EndpointNews | None, index: int | None) -> float:
    if news is None or index is None or index >= len(news.loaded_mb):
        return 0.0
    return news.loaded_mb[index]

"""What the workers know of endpoints right now, for the admin's columns."""

import threading
import time
from collections.abc import Iterable
from typing import cast

import redis

from routing.models import Offering
from routing.policy.publish import redis_client
from routing.policy.rules import plain_name
from telemetry.offering_health import KnownOffering, NewsBoard
from telemetry.redis_names import STATE_LAST
from telemetry.state_news import EndpointNews

# One page asks for every row; a page a second later sees the news of then.
FRESH_S = 1.0
# News older than three probes says nothing about now.
STALE_S = 20.0


class Board:
    """The last news of endpoints and breakers, read at most once a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at_s = 0.0
        self._board = NewsBoard()

    def endpoint(self, name: str) -> EndpointNews | None:
        """Return recent news of an endpoint, or None."""
        news = self._fresh().endpoints.get(name)
        return news if news is not None and time.time() - news.at < STALE_S else None

    def breaker(self, offering: Offering) -> str:
        """Return closed, open or half-open for the breaker of a model at its endpoint."""
        name, endpoint = offering.model.name, offering.endpoint.name
        return self._fresh().health(KnownOffering(name, endpoint, name)).breaker

    def forget(self) -> None:
        """Read again at the next question."""
        with self._lock:
            self._read_at_s = 0.0

    def state(self, offering: Offering) -> str:
        """Return loaded, ready, missing, down or unknown for a model at its endpoint."""
        news = self.endpoint(offering.endpoint.name)
        if news is None:
            return "unknown"
        if not news.up:
            return "down"
        wanted = plain_name(offering.upstream_model or offering.model.name)
        if wanted in _plain(news.loaded):
            return "loaded"
        if news.available is not None and wanted not in _plain(news.available):
            return "missing"
        return "ready"

    def _fresh(self) -> NewsBoard:
        with self._lock:
            if time.monotonic() - self._read_at_s > FRESH_S:
                self._board = _read()
                self._read_at_s = time.monotonic()
            return self._board


def _plain(names: Iterable[str]) -> set[str]:
    return {plain_name(name) for name in names}


def _read() -> NewsBoard:
    try:
        with redis_client() as client:
            messages = cast("dict[bytes, bytes]", client.hgetall(STATE_LAST))
    except redis.RedisError:
        return NewsBoard()
    return NewsBoard.from_messages(messages.values())


BOARD = Board()

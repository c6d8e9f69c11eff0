"""What the workers know of endpoints right now, for the admin's columns."""

import contextlib
import threading
import time
from collections.abc import Iterable

import msgspec
import redis

from routing.models import Offering
from routing.policy.publish import redis_client
from routing.policy.rules import plain_name
from telemetry import state_news
from telemetry.redis_names import STATE_LAST
from telemetry.state_news import EndpointNews

# One page asks for every row; a page a second later sees the news of then.
FRESH_S = 1.0
# News older than three probes says nothing about now.
STALE_S = 20.0


class Board:
    """The last news of each endpoint, read at most once a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at_s = 0.0
        self._news: dict[str, EndpointNews] = {}

    def endpoint(self, name: str) -> EndpointNews | None:
        """Return recent news of an endpoint, or None."""
        with self._lock:
            if time.monotonic() - self._read_at_s > FRESH_S:
                self._news = _read()
                self._read_at_s = time.monotonic()
        news = self._news.get(name)
        return news if news is not None and time.time() - news.at < STALE_S else None

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


def _plain(names: Iterable[str]) -> set[str]:
    return {plain_name(name) for name in names}


def _read() -> dict[str, EndpointNews]:
    try:
        with redis_client() as client:
            messages = client.hgetall(STATE_LAST)
    except redis.RedisError:
        return {}
    found = {}
    for message in messages.values():
        # What another release wrote may be unreadable here.
        with contextlib.suppress(msgspec.DecodeError):
            news = state_news.decode(message) if isinstance(message, bytes) else None
            if isinstance(news, EndpointNews):
                found[news.endpoint] = news
    return found


BOARD = Board()

"""Who may load a model on a host: memory that is promised but not yet visible, one load at a time.

The pure rules, and the oracle of the Lua script in `routing.coordination.reservations`. Memory is
in whole MB of 10^6 bytes and time in whole milliseconds, so that both compute the same.
"""

from dataclasses import dataclass

# A measurement this much younger than the end of a load has seen the memory it took.
SETTLE_MS = 250
# A host whose measurements are older than this takes no loads, so nothing is promised for longer.
KEEP_MS = 60_000


@dataclass(frozen=True, slots=True)
class Granted:
    """The memory is promised to the caller, who loads now and then settles or releases."""

    token: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The same model is being loaded by somebody, or was so recently that few know (`loaded`)."""

    token: str
    wait_ms: int
    loaded: bool


@dataclass(frozen=True, slots=True)
class HostBusy:
    """Another model is being loaded there; `wait_ms` is when it should be done."""

    key: str
    wait_ms: int


@dataclass(frozen=True, slots=True)
class NoRoom:
    """The need is more than what is free once everything promised is taken away."""

    free_mb: int
    reserved_mb: int


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nobody can say what others load: only loaded models may be used."""


Outcome = Granted | Joined | HostBusy | NoRoom | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A load that somebody wants to begin."""

    key: str  # the model, its endpoint and its context: what is loaded once
    token: str  # names this reservation, should it be granted
    need_mb: int
    room_mb: int  # what may be used by the caller's freshest measurement, safety buffer off
    age_ms: int = 0  # of that measurement
    expected_ms: int = 0  # how long the load should take
    ttl_ms: int = 1_000  # how long the promise holds unless it is renewed


@dataclass(slots=True)
class _Promise:
    token: str
    need_mb: int
    expires_ms: int
    ready_ms: int
    loaded_ms: int = 0  # when the load ended; 0: it goes on


class Ledger:
    """The promises of one host. Callers pass the time: positive, and never going backwards."""

    def __init__(self) -> None:
        self._promises: dict[str, _Promise] = {}

    def reserve(self, wish: Wish, now_ms: int) -> Granted | Joined | HostBusy | NoRoom:
        """Promise memory for a load, or say what speaks against it."""
        self._purge(now_ms)
        measured_ms = now_ms - wish.age_ms
        mine = self._promises.get(wish.key)
        if mine is not None and not _is_visible(mine, measured_ms):
            wait_ms = 0 if mine.loaded_ms else max(mine.ready_ms - now_ms, 0)
            return Joined(mine.token, wait_ms, loaded=mine.loaded_ms > 0)
        for key, promise in sorted(self._promises.items()):
            if not promise.loaded_ms:
                return HostBusy(key, max(promise.ready_ms - now_ms, 0))
        reserved = self._reserved_mb(measured_ms)
        if wish.need_mb > wish.room_mb - reserved:
            return NoRoom(wish.room_mb - reserved, reserved)
        self._promises[wish.key] = _Promise(
            wish.token, wish.need_mb, now_ms + wish.ttl_ms, now_ms + wish.expected_ms
        )
        return Granted(wish.token)

    def renew(self, key: str, token: str, ttl_ms: int, now_ms: int) -> bool:
        """Hold a promise for longer; False if it has lapsed or the load has ended."""
        promise = self._held(key, token, now_ms)
        if promise is None or promise.loaded_ms:
            return False
        promise.expires_ms = now_ms + ttl_ms
        return True

    def settle(self, key: str, token: str, now_ms: int) -> bool:
        """End a load that worked: the host is free for the next one, the memory still counts."""
        promise = self._held(key, token, now_ms)
        if promise is None or promise.loaded_ms:
            return False
        promise.loaded_ms, promise.expires_ms = now_ms, now_ms + KEEP_MS
        return True

    def release(self, key: str, token: str, now_ms: int) -> bool:
        """Take a promise back: the load failed, or never began."""
        if self._held(key, token, now_ms) is None:
            return False
        del self._promises[key]
        return True

    def reserved_mb(self, now_ms: int, age_ms: int = 0) -> int:
        """Return what a measurement of that age does not show yet."""
        self._purge(now_ms)
        return self._reserved_mb(now_ms - age_ms)

    def loading(self, now_ms: int) -> tuple[str, ...]:
        """Return the keys of the loads under way."""
        self._purge(now_ms)
        return tuple(key for key, promise in self._promises.items() if not promise.loaded_ms)

    def _reserved_mb(self, measured_ms: int) -> int:
        # While it loads, part of it may be visible already: counted twice is counted safely.
        hidden = (p for p in self._promises.values() if not _is_visible(p, measured_ms))
        return sum(promise.need_mb for promise in hidden)

    def _held(self, key: str, token: str, now_ms: int) -> _Promise | None:
        self._purge(now_ms)
        promise = self._promises.get(key)
        return promise if promise is not None and promise.token == token else None

    def _purge(self, now_ms: int) -> None:
        lapsed = [key for key, promise in self._promises.items() if promise.expires_ms <= now_ms]
        for key in lapsed:
            del self._promises[key]


def _is_visible(promise: _Promise, measured_ms: int) -> bool:
    return promise.loaded_ms > 0 and measured_ms >= promise.loaded_ms + SETTLE_MS

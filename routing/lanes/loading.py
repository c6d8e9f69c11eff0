"""Load a model before it is asked: reserve its memory, make room, load, and tell the others.

One task a load in each worker, which every request for that model awaits: whoever leaves does not
end a load that others wait for. Between workers and nodes the shared ledger decides.
"""

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import AsyncIterator

import msgspec

from routing.coordination.reservations import Reservations
from routing.engine.errors import (
    HostLoading,
    LoadRefused,
    LoadsUncoordinated,
    ProviderError,
    UpstreamTimeout,
)
from routing.engine.memory import Resident
from routing.engine.need import Need
from routing.engine.policy import Candidate
from routing.engine.refusal import displaced
from routing.engine.reservations import (
    SETTLE_MS,
    Granted,
    HostBusy,
    Joined,
    NoRoom,
    Outcome,
    Unavailable,
    Wish,
)
from routing.engine.state import HostState, OfferingState
from routing.lanes import load_news, unloading
from routing.lanes.runtime import Runtime
from routing.providers.base import Call, Loader

logger = logging.getLogger(__name__)

# A load may take twice what is predicted, and this much more.
LOAD_FACTOR = 2.0
LOAD_MARGIN_S = 15.0
# Who waits for another load asks again this often, in case its news got lost.
ASK_AGAIN_S = 0.25
# Victims that are not gone by then are in use after all, or the engine does not let go.
ROOM_WITHIN_S = 5.0
LOOK_EVERY_S = 0.1
ALONE_S = 1.0
MB_PER_GB = 1000


class Load(msgspec.Struct, eq=False):
    """One load that this worker wants: of what, where, and with whose permission."""

    candidate: Candidate
    live: OfferingState
    host: HostState
    loader: Loader
    critical: bool
    embeds: bool
    token: str

    @property
    def key(self) -> str:
        return self.candidate.load_key

    @property
    def limit_s(self) -> float:
        return LOAD_MARGIN_S + LOAD_FACTOR * self.live.load_ms / 1000


def needs_load(runtime: Runtime, candidate: Candidate, live: OfferingState) -> bool:
    """Return True if the model has to be loaded, by an engine that loads when it is told to."""
    if live.loaded or live.host is None:
        return False
    return isinstance(runtime.provider(candidate), Loader)


async def ensure_loaded(
    runtime: Runtime,
    candidate: Candidate,
    live: OfferingState,
    *,
    deadline: float,
    patience_s: float = math.inf,
    critical: bool = False,
) -> None:
    """Return once the model is in memory. `deadline` is on the runtime's clock.

    Raises HostLoading once the host has been busy with another load for `patience_s`, LoadRefused
    where there is no room, LoadsUncoordinated without Redis, TimeoutError at the deadline, and what
    the engine's refusal to load is.
    """
    give_up = min(deadline, runtime.clock() + patience_s)
    while needs_load(runtime, candidate, live):
        try:
            async with asyncio.timeout(max(deadline - runtime.clock(), 0)):
                await asyncio.shield(_task(runtime, candidate, live, critical=critical))
            return
        except HostLoading as busy:
            left_s = give_up - runtime.clock()
            if left_s <= 0:
                raise
            await asyncio.sleep(min(busy.retry_after_s or ASK_AGAIN_S, ASK_AGAIN_S, left_s))


class FleetLoader:
    """Lets the gate load models in the order of its queues; see `lanes.loads.Loader`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def needs(self, candidate: Candidate, live: OfferingState) -> bool:
        return needs_load(self._runtime, candidate, live)

    async def load(
        self, candidate: Candidate, live: OfferingState, need: Need, deadline: float
    ) -> bool:
        try:
            await ensure_loaded(
                self._runtime,
                candidate,
                live,
                deadline=deadline,
                patience_s=0,
                critical=need.priority == "critical",
            )
        except HostLoading:
            return False
        return True


def _task(
    runtime: Runtime, candidate: Candidate, live: OfferingState, *, critical: bool
) -> asyncio.Task[None]:
    """Return the task that loads this model here: the one under way, or a new one."""
    name = (candidate.load_key, critical)
    task = runtime.loads.get(name)
    if task is None:
        task = runtime.loads[name] = asyncio.create_task(
            _load(runtime, _planned(runtime, candidate, live, critical=critical))
        )

        def done(ended: asyncio.Task[None]) -> None:
            runtime.loads.pop(name, None)
            # Read it even where everybody who waited has left.
            if not ended.cancelled():
                ended.exception()

        task.add_done_callback(done)
    return task


def _planned(
    runtime: Runtime, candidate: Candidate, live: OfferingState, *, critical: bool
) -> Load:
    host, loader = live.host, runtime.provider(candidate)
    if host is None or not isinstance(loader, Loader):
        raise LookupError(f"{candidate.id} is loaded by nobody here.")
    embeds = candidate.model.capabilities == ("embedding",)
    return Load(candidate, live, host, loader, critical, embeds, secrets.token_hex(8))


async def _load(runtime: Runtime, load: Load) -> None:
    now = runtime.clock()
    if load.host.loading == load.key:
        raise _busy(load, int((load.host.ready_at - now) * 1000))
    victims = displaced(load.live, load.host, now, critical=load.critical)
    if victims is None:
        room_gb = load.host.room_gb(critical=load.critical)
        if load.live.need_gb <= room_gb:
            raise _busy(load, SETTLE_MS)
        raise _no_room(load, room_gb - load.host.reserved_gb)
    match await _reserve(runtime, load, victims):
        case Granted():
            await _carry_out(runtime, load, victims)
        case Joined(loaded=True):
            load_news.note_loaded(runtime, load.candidate, load.live)
        case Joined(wait_ms=wait_ms) | HostBusy(wait_ms=wait_ms):
            raise _busy(load, wait_ms)
        case NoRoom(free_mb=free_mb, reserved_mb=reserved_mb) if reserved_mb > 0:
            # What was just loaded may be counted twice: a fresher measurement will tell.
            if load.live.need_gb * MB_PER_GB > free_mb + reserved_mb:
                raise _no_room(load, free_mb / MB_PER_GB)
            raise _busy(load, SETTLE_MS)
        case NoRoom(free_mb=free_mb):
            raise _no_room(load, free_mb / MB_PER_GB)
        case _:
            load.host.alone_until = runtime.clock() + ALONE_S
            raise LoadsUncoordinated(
                load.candidate.endpoint_name,
                "Loads cannot be coordinated while Redis is away; only loaded models are used.",
            )


async def _reserve(runtime: Runtime, load: Load, victims: tuple[Resident, ...]) -> Outcome:
    if runtime.reservations is None:
        return Unavailable()
    host, now = load.host, runtime.clock()
    room_gb = host.room_gb(critical=load.critical) + sum(v.size_gb for v in victims)
    wish = Wish(
        key=load.key,
        token=load.token,
        need_mb=math.ceil(load.live.need_gb * MB_PER_GB),
        room_mb=math.floor(room_gb * MB_PER_GB),
        age_ms=max(math.ceil((now - host.at) * 1000), 0),
        expected_ms=int(load.live.load_ms),
        ttl_ms=int(load.limit_s * 1000),
    )
    return await runtime.reservations.reserve(host.name, wish)


async def _carry_out(runtime: Runtime, load: Load, victims: tuple[Resident, ...]) -> None:
    """Load with the memory promised; a load whose end is unknown keeps the promise standing."""
    load_news.tell_loading(runtime, load.candidate, load.live, lapses_in_s=load.limit_s)
    try:
        async with _renewed(runtime, load):
            await make_room(runtime, load, victims)
            began = runtime.clock()
            async with asyncio.timeout(load.limit_s):
                await load.loader.load(_call(load))
    except ProviderError:
        load_news.tell_failed(runtime, load.candidate, load.live)
        await _ledger(runtime).release(load.host.name, load.key, load.token)
        raise
    except TimeoutError as exc:
        name = load.candidate.endpoint_name
        said = f"Endpoint '{name}' did not load '{load.candidate.upstream_model}' in time."
        raise UpstreamTimeout(name, said) from exc
    load_ms = (runtime.clock() - began) * 1000
    load_news.tell_loaded(runtime, load.candidate, load.live, load_ms=load_ms)
    await _ledger(runtime).settle(load.host.name, load.key, load.token)


async def make_room(runtime: Runtime, load: Load, victims: tuple[Resident, ...]) -> None:
    """Have the victims leave, and return once their memory is seen to be free.

    An engine lets a model that is answering finish first. Raises LoadRefused where that takes too
    long: nothing is loaded into memory that is not free.
    """
    if not victims:
        return
    gone = {victim.model for victim in victims}
    within_s = unloading.OBJECT_WITHIN_S + ROOM_WITHIN_S
    if not await unloading.agreed(runtime, load.live, gone, within_s=within_s):
        raise _busy(load, int(unloading.KEPT_S * 1000))
    try:
        async with asyncio.timeout(ROOM_WITHIN_S):
            for name in sorted(gone):
                await load.loader.unload(name)
            # The engine tells nobody when it is done; it has to be asked.
            while not await _are_gone(load, gone):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise _no_room(load, load.host.room_gb(critical=load.critical)) from None
    finally:
        unloading.over(runtime, load.live, gone)


async def _are_gone(load: Load, names: set[str]) -> bool:
    """Return True if the engine lists none of them, and the memory is seen to be free."""
    # What is reserved includes this load by now.
    host, gone = load.host, names.isdisjoint(await load.loader.loaded())
    return gone and host.reserved_gb <= host.room_gb(critical=load.critical)


def _busy(load: Load, wait_ms: int) -> HostLoading:
    return HostLoading(
        load.candidate.endpoint_name,
        f"Host '{load.host.name}' is loading a model; the next one waits.",
        retry_after_s=max(wait_ms / 1000, 0.01),
    )


def _no_room(load: Load, free_gb: float) -> LoadRefused:
    return LoadRefused(
        load.candidate.endpoint_name,
        f"'{load.candidate.model_name}' needs {load.live.need_gb:.1f} GB on host "
        f"'{load.host.name}', {max(free_gb, 0.0):.1f} GB may be used.",
    )


@contextlib.asynccontextmanager
async def _renewed(runtime: Runtime, load: Load) -> AsyncIterator[None]:
    """Keep the promise from lapsing while the load goes on."""
    ttl_s = load.limit_s

    async def renew() -> None:
        while True:
            await asyncio.sleep(ttl_s / 3)
            await _ledger(runtime).renew(load.host.name, load.key, load.token, int(ttl_s * 1000))

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()


def _ledger(runtime: Runtime) -> Reservations:
    if runtime.reservations is None:
        raise LookupError("No reservation was made.")
    return runtime.reservations


def _call(load: Load) -> Call:
    offering = load.candidate.offering
    return Call(
        model=load.candidate.upstream_model,
        inputs=[] if load.embeds else None,
        num_ctx=offering.num_ctx,
        keep_alive=offering.keep_alive,
    )

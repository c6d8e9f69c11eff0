"""Have idle models leave an engine's memory, without taking them from somebody who uses them.

A worker sees its own calls only, and an engine asked for a model that has just left loads it again
by itself, beside what it left for. So the others are asked first: from then on nobody begins to use
the models, and who is using one objects.
"""

import asyncio
import time
from typing import TYPE_CHECKING

from routing.engine.state import EndpointState, OfferingState
from routing.lanes.load_news import LOCAL_HOST
from telemetry.state_news import UnloadNews

if TYPE_CHECKING:
    from routing.lanes.runtime import Runtime

# What everybody needs to hear of it and to object, pauses of busy workers included.
OBJECT_WITHIN_S = 0.2
# Who was told that a model is in use asks for it again after this long.
KEPT_S = 1.0


async def agreed(
    runtime: "Runtime", live: OfferingState, models: set[str], *, within_s: float
) -> bool:
    """Take the models out of use everywhere, for at most `within_s`; False if somebody objects.

    Whoever gets True calls `over` when they are gone, or when that was given up.
    """
    endpoint = live.endpoint
    if _used(runtime, endpoint, models):
        return False
    endpoint.depart(models, runtime.clock() + within_s)
    runtime.state.endpoint_changed(endpoint.name)
    _tell(runtime, live, models, "asked", lapses_in_s=within_s)
    try:
        await asyncio.sleep(OBJECT_WITHIN_S)
    except BaseException:
        _call_off(runtime, live, models)
        raise
    now = runtime.clock()
    if any(endpoint.kept_until.get(model, 0.0) > now for model in models):
        _call_off(runtime, live, models)
        return False
    return True


def over(runtime: "Runtime", live: OfferingState, models: set[str]) -> None:
    """Say that the models are gone, or may stay: the next look at the engine tells which."""
    live.endpoint.departed(models, runtime.clock())
    _tell(runtime, live, models, "over")


def hear(runtime: "Runtime", news: UnloadNews) -> None:
    """Take in what another worker asks or says."""
    if news.worker == runtime.identity:
        return  # its own word
    if news.host == LOCAL_HOST and news.node != runtime.node:
        return
    endpoint, now = runtime.state.endpoint(news.endpoint), runtime.clock()
    at, lapses_at = (now + then - time.time() for then in (news.at, news.lapses_at))
    if news.state == "asked":
        _hear_asked(runtime, endpoint, news, lapses_at)
    elif news.state == "over":
        endpoint.departed(news.models, at)
    else:
        endpoint.stay(news.models, at + KEPT_S)
    runtime.state.endpoint_changed(endpoint.name)
    runtime.gate.pump(endpoint.name)


def _hear_asked(
    runtime: "Runtime", endpoint: EndpointState, news: UnloadNews, lapses_at: float
) -> None:
    if lapses_at <= runtime.clock():
        return
    models = set(news.models)
    if used := _used(runtime, endpoint, models):
        _tell(runtime, used[0], models, "objected")
    else:
        endpoint.depart(models, lapses_at)


def _used(runtime: "Runtime", endpoint: EndpointState, models: set[str]) -> list[OfferingState]:
    """Return the offerings of these models that this worker calls, or has callers waiting for."""
    way = runtime.gate.ways.get(endpoint.name)
    offered = [o for o in endpoint.offerings if not models.isdisjoint(o.names)]
    return [o for o in offered if o.in_flight or (way is not None and way.queue.waits_for([o.id]))]


def _call_off(runtime: "Runtime", live: OfferingState, models: set[str]) -> None:
    live.endpoint.stay(models, runtime.clock() + KEPT_S)
    runtime.state.endpoint_changed(live.endpoint.name)
    _tell(runtime, live, models, "called_off")
    runtime.gate.pump(live.endpoint.name)


def _tell(
    runtime: "Runtime",
    live: OfferingState,
    models: set[str],
    state: str,
    *,
    lapses_in_s: float = 0.0,
) -> None:
    at = time.time()
    runtime.load_news(
        UnloadNews(
            endpoint=live.endpoint.name,
            models=tuple(sorted(models)),
            state=state,
            at=at,
            lapses_at=at + lapses_in_s,
            host=live.host.name if live.host is not None else "",
            node=runtime.node,
            worker=runtime.identity,
        )
    )

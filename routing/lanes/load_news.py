"""What a worker notes of loads, its own and others', and what it tells of them."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from routing.engine.memory import Learned
from routing.engine.policy import Candidate
from routing.engine.reservations import SETTLE_MS
from routing.engine.state import EndpointState, FleetState, OfferingState
from telemetry.state_news import EndpointNews, LoadNews

if TYPE_CHECKING:
    from routing.lanes.runtime import Runtime

SETTLE_S = SETTLE_MS / 1000
# A size that differs by less than this from what is known is no news.
NEWS_SHARE = 0.02
LOCAL_HOST = "local"


def tell_loading(
    runtime: "Runtime", candidate: Candidate, live: OfferingState, *, lapses_in_s: float
) -> None:
    """Note a load that begins here, and tell the others."""
    now, host = runtime.clock(), live.host
    ready_at, lapses_at = now + live.load_ms / 1000, now + lapses_in_s
    if host is not None:
        key = candidate.load_key
        host.note_load(key, live.need_gb, ready_at=ready_at, lapses_at=lapses_at, now=now)
    _tell(runtime, candidate, live, "loading", ready_in_s=ready_at - now, lapses_in_s=lapses_in_s)


def tell_failed(runtime: "Runtime", candidate: Candidate, live: OfferingState) -> None:
    if live.host is not None:
        live.host.forget_load(candidate.load_key, runtime.clock())
    _tell(runtime, candidate, live, "failed")


def tell_loaded(
    runtime: "Runtime", candidate: Candidate, live: OfferingState, *, load_ms: float
) -> None:
    """Note that a model is loaded, learn how long that took, and tell the others."""
    known = runtime.state.learned.setdefault(candidate.load_key, Learned())
    known.see_load(load_ms)
    runtime.state.learn_load(candidate.load_key, load_ms=known.load_ms)
    note_loaded(runtime, candidate, live)
    _tell(runtime, candidate, live, "loaded", lapses_in_s=SETTLE_S)


def note_loaded(runtime: "Runtime", candidate: Candidate, live: OfferingState) -> None:
    """Take a model for loaded at once; its memory counts until measurements can show it."""
    now = runtime.clock()
    _mark(runtime.state, live.endpoint, candidate.upstream_model, live.need_gb, now)
    if live.host is not None:
        key = candidate.load_key
        live.host.note_load(key, live.need_gb, ready_at=0.0, lapses_at=now + SETTLE_S, now=now)


def note_refused(runtime: "Runtime", live: OfferingState) -> None:
    """Nobody listens at the endpoint: what its engine held is gone with it."""
    if live.host is not None:
        live.endpoint.vanish(runtime.clock())
        runtime.state.endpoint_changed(live.endpoint.name)


def hear_load(runtime: "Runtime", news: LoadNews) -> None:
    """Take in what another worker says of a load, or what is remembered of one."""
    if news.worker == runtime.identity:
        return  # its own word
    if news.host == LOCAL_HOST and news.node != runtime.node:
        return
    _learn(runtime, news)
    host, now, told_ago_s = runtime.state.host(news.host), runtime.clock(), time.time() - news.at
    lapses_at = now + news.lapses_at - time.time()
    if lapses_at <= now:
        host.forget_load(news.load, now)
        return
    ready_at = now + news.ready_at - time.time() if news.state == "loading" else 0.0
    host.note_load(news.load, news.reserved_gb, ready_at=ready_at, lapses_at=lapses_at, now=now)
    if news.state == "loaded":
        endpoint = runtime.state.endpoint(news.endpoint)
        _mark(runtime.state, endpoint, news.model, news.reserved_gb, now - max(told_ago_s, 0.0))


def see_endpoint(runtime: "Runtime", endpoint: EndpointState, news: EndpointNews) -> None:
    """Take over what an endpoint holds; what was loaded since it was looked at stays loaded."""
    now = runtime.clock()
    looked_at = now - max(time.time() - news.at, 0.0)
    newer = {n for n, at in endpoint.loaded_at.items() if at > looked_at} & endpoint.loaded
    there = endpoint.countable(news.loaded, looked_at)
    sizes = dict(zip(news.loaded, (mb / 1000 for mb in news.loaded_mb), strict=False))
    seen = {name: sizes[name] for name in there if name in sizes}
    endpoint.sizes_gb = {n: endpoint.sizes_gb.get(n, 0.0) for n in newer} | seen
    for name in there:
        endpoint.loaded_at.setdefault(name, looked_at if endpoint.at else 0.0)
    endpoint.loaded = frozenset(there) | newer
    endpoint.loaded_at = {n: at for n, at in endpoint.loaded_at.items() if n in endpoint.loaded}
    contexts = dict(zip(news.loaded, news.loaded_ctx, strict=False))
    for live in endpoint.offerings:
        _see_size(runtime, live, sizes, contexts)


def see_names(runtime: "Runtime", name: str, loaded: Iterable[str], seen_at: float) -> None:
    """Take over the names of what an endpoint holds, from the agent of its host (monotonic)."""
    endpoint = runtime.state.endpoint(name)
    newer = {n for n, at in endpoint.loaded_at.items() if at > seen_at} & endpoint.loaded
    names = frozenset(endpoint.countable(loaded, seen_at)) | newer
    for model in names:
        endpoint.loaded_at.setdefault(model, seen_at)
    for gone in set(endpoint.loaded_at) - names:
        del endpoint.loaded_at[gone]
        endpoint.sizes_gb.pop(gone, None)
    endpoint.loaded = names
    runtime.state.endpoint_changed(name)


def _see_size(
    runtime: "Runtime", live: OfferingState, sizes: dict[str, float], contexts: dict[str, int]
) -> None:
    candidate = runtime.policy.by_id.get(live.id)
    name = next((name for name in live.names if sizes.get(name)), None)
    if candidate is None or name is None:
        return
    pinned, loaded_with = candidate.offering.num_ctx, contexts.get(name)
    if pinned and loaded_with and pinned != loaded_with:
        return  # somebody else loaded it: that is another load's size
    known = runtime.state.learned.setdefault(candidate.load_key, Learned())
    before = known.need_gb
    known.see_size(sizes[name])
    runtime.state.learn_load(candidate.load_key, need_gb=known.need_gb)
    if abs(known.need_gb - before) > NEWS_SHARE * known.need_gb:
        _tell(runtime, candidate, live, "learned")


def _learn(runtime: "Runtime", news: LoadNews) -> None:
    runtime.state.learn_load(news.load, need_gb=news.need_gb, load_ms=news.load_ms)


def _mark(
    state: FleetState, endpoint: EndpointState, model: str, size_gb: float, at: float
) -> None:
    endpoint.departures.pop(model, None)
    endpoint.loaded |= {model}
    endpoint.sizes_gb.setdefault(model, size_gb)
    endpoint.loaded_at[model] = at
    state.endpoint_changed(endpoint.name)


def _tell(
    runtime: "Runtime",
    candidate: Candidate,
    live: OfferingState,
    what: str,
    *,
    ready_in_s: float = 0.0,
    lapses_in_s: float = 0.0,
) -> None:
    known, at = runtime.state.learned.get(candidate.load_key) or Learned(), time.time()
    runtime.load_news(
        LoadNews(
            load=candidate.load_key,
            host=candidate.host,
            endpoint=candidate.endpoint_name,
            model=candidate.upstream_model,
            state=what,
            at=at,
            ready_at=at + ready_in_s if ready_in_s else 0.0,
            lapses_at=at + lapses_in_s if lapses_in_s else 0.0,
            reserved_gb=live.need_gb,
            need_gb=known.need_gb,
            load_ms=known.load_ms,
            worker=runtime.identity,
            node=runtime.node,
        )
    )

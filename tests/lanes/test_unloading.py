"""Models leave an engine for another one's sake: only idle ones, and nobody begins to use them."""

import asyncio
import time

import pytest

from routing.engine.errors import ConnectFailed, HostLoading
from routing.engine.state import OfferingState
from routing.lanes import load_news, unloading
from routing.lanes.runtime import Runtime
from telemetry.state_news import EndpointNews, UnloadNews
from tests.lanes.crew import NAMES, TOTAL_GB, Crew, load, until
from tests.lanes.crew import box as box
from tests.lanes.crew import crew as crew

FULL = NAMES[:4]  # no fifth one fits beside them
FIFTH = NAMES[4]


def live(worker: Runtime, name: str) -> OfferingState:
    return worker.state.offerings[f"{name}@sim"]


def look(at: float, *loaded: str) -> EndpointNews:
    sizes = tuple(2000.0 for _ in loaded)
    return EndpointNews(endpoint="sim", up=True, at=at, loaded=loaded, loaded_mb=sizes)


def there(crew: Crew) -> set[str]:
    return {runner.model.name for runner in crew.box.sim.host.loaded()}


@pytest.fixture
async def pair(crew: Crew) -> tuple[Runtime, Runtime]:
    """Two workers who know that the machine is full."""
    one, other = crew.worker(), crew.worker()
    await asyncio.sleep(0.1)
    for name in FULL:
        await load(one, name)
    await until(lambda: all(live(other, name).loaded for name in FULL))
    await asyncio.sleep(0.4)  # until what was just loaded is no longer counted twice
    return one, other


async def test_what_another_worker_uses_stays(pair: tuple[Runtime, Runtime], crew: Crew) -> None:
    one, other = pair
    for name in FULL:
        live(other, name).in_flight = 1
    with pytest.raises(HostLoading):
        await load(one, FIFTH, patience_s=0)
    assert there(crew) == set(FULL)
    assert all(live(worker, name).loaded for worker in pair for name in FULL)
    # Nobody is asked again at once, and once the calls are over the model may go.
    assert live(one, FULL[0]).endpoint.kept_until[FULL[0]] > one.clock()
    for name in FULL:
        live(other, name).in_flight = 0
    await load(one, FIFTH, patience_s=10)
    assert FIFTH in there(crew)
    assert crew.most_used_gb <= TOTAL_GB * 0.9


async def test_nobody_begins_to_use_what_is_to_go(
    pair: tuple[Runtime, Runtime], crew: Crew
) -> None:
    one, other = pair
    loading = asyncio.create_task(load(one, FIFTH))
    await until(lambda: not live(other, FULL[0]).loaded)
    assert not live(one, FULL[0]).loaded
    # The engine still holds it: a call now would have been answered, and brought it back later.
    assert FULL[0] in there(crew)
    await loading
    assert not live(other, FULL[0]).loaded
    assert FULL[0] not in there(crew)


async def test_only_a_look_after_the_departure_counts(pair: tuple[Runtime, Runtime]) -> None:
    _, other = pair
    asked_at = time.time()
    other.hear(
        UnloadNews(
            endpoint="sim",
            models=(FULL[0],),
            state="asked",
            at=asked_at,
            lapses_at=asked_at + 5,
            host="local",
            node=other.node,
            worker="somebody",
        )
    )
    other.hear(look(asked_at + 0.1, *FULL))
    assert not live(other, FULL[0]).loaded
    assert live(other, FULL[1]).loaded
    over = UnloadNews(
        endpoint="sim", models=(FULL[0],), state="over", at=time.time(), host="local",
        node=other.node, worker="somebody",
    )  # fmt: skip
    other.hear(over)
    other.hear(look(over.at - 0.01, *FULL))
    assert not live(other, FULL[0]).loaded
    other.hear(look(over.at + 0.01, *FULL))
    assert live(other, FULL[0]).loaded


async def test_who_never_says_that_it_is_over_is_not_waited_for(crew: Crew) -> None:
    worker = crew.worker()
    await load(worker, FULL[0])
    at = time.time()
    asked = UnloadNews(
        endpoint="sim", models=(FULL[0],), state="asked", at=at, lapses_at=at + 0.1, host="local",
        node=worker.node, worker="dead",
    )  # fmt: skip
    worker.hear(asked)
    assert not live(worker, FULL[0]).loaded
    await asyncio.sleep(0.15)
    worker.hear(look(time.time(), FULL[0]))
    assert live(worker, FULL[0]).loaded


async def test_another_nodes_local_engine_is_not_meant(pair: tuple[Runtime, Runtime]) -> None:
    _, other = pair
    at = time.time()
    other.hear(
        UnloadNews(
            endpoint="sim",
            models=FULL,
            state="asked",
            at=at,
            lapses_at=at + 5,
            host="local",
            node="elsewhere",
            worker="somebody",
        )  # fmt: skip
    )
    assert all(live(other, name).loaded for name in FULL)


async def test_an_objection_brings_everything_back(pair: tuple[Runtime, Runtime]) -> None:
    one, other = pair
    live(other, FULL[0]).in_flight = 1
    sizes = dict(live(one, FULL[0]).endpoint.sizes_gb)
    assert not await unloading.agreed(one, live(one, FULL[0]), {FULL[0]}, within_s=5)
    for worker in pair:
        await until(lambda worker=worker: live(worker, FULL[0]).loaded)  # type: ignore[misc]
    assert live(one, FULL[0]).endpoint.sizes_gb == sizes


async def test_an_engine_that_is_gone_holds_nothing(crew: Crew) -> None:
    worker = crew.worker()
    await load(worker, FULL[0])
    vanished_at = time.time()
    load_news.note_refused(worker, live(worker, FULL[0]))
    assert not live(worker, FULL[0]).loaded
    worker.hear(look(vanished_at - 1, FULL[0]))
    assert not live(worker, FULL[0]).loaded
    worker.hear(look(time.time() + 0.01, FULL[0]))
    assert live(worker, FULL[0]).loaded


async def test_only_a_refused_connection_proves_that_the_engine_is_gone(crew: Crew) -> None:
    worker = crew.worker(base_url="http://127.0.0.1:1")
    with pytest.raises(ConnectFailed) as failed:
        await load(worker, FULL[0])
    assert failed.value.refused

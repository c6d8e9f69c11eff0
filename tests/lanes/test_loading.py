"""Cold loads of several workers at one host: one at a time, each once, never over the room."""

import asyncio
import time

import pytest

from routing.engine.catalog import EndpointSpec, OfferingSpec
from routing.engine.errors import HostLoading, LoadRefused, LoadsUncoordinated, UpstreamFault
from telemetry.state_news import EndpointNews, LoadNews
from tests.cast import document
from tests.lanes.crew import MODELS, NAMES, NEED_GB, TOTAL_GB, Crew, load, told, until
from tests.lanes.crew import box as box
from tests.lanes.crew import crew as crew


async def test_many_cold_requests_never_take_more_than_there_is(crew: Crew) -> None:
    # Ten gigabytes, one of them the buffer: four models of two gigabytes fit, the fifth never.
    workers = [crew.worker(min_residency_s=60.0) for _ in range(2)]
    outcomes = await asyncio.gather(
        *(load(workers[i % 2], NAMES[i % 5]) for i in range(200)), return_exceptions=True
    )
    refused = [o for o in outcomes if o is not None]
    assert all(isinstance(o, LoadRefused) for o in refused), refused
    assert len(refused) == 40
    loaded = told(crew.news, "loaded")
    assert len(loaded) == len(set(loaded)) == 4
    steps = [n.state for n in crew.news if isinstance(n, LoadNews)]
    assert steps == ["loading", "loaded"] * 4  # one load at a time
    assert crew.most_used_gb <= TOTAL_GB * 0.9


async def test_what_one_worker_loaded_is_loaded_for_all(crew: Crew) -> None:
    one, other = crew.worker(), crew.worker()
    await asyncio.sleep(0.1)
    await load(one, NAMES[0])
    live = other.state.offerings[f"{NAMES[0]}@sim"]
    await until(lambda: live.loaded)
    assert live.load_ms == one.state.offerings[f"{NAMES[0]}@sim"].load_ms >= 50


async def test_the_least_recently_used_make_room(crew: Crew) -> None:
    worker = crew.worker()
    for name in NAMES[:4]:
        await load(worker, name)
        await asyncio.sleep(0.02)
    worker.state.offerings[f"{NAMES[0]}@sim"].used_at = worker.clock()
    await asyncio.sleep(0.4)  # until what was just loaded is no longer counted twice
    await load(worker, NAMES[4])
    loaded = {runner.model.name for runner in crew.box.sim.host.loaded()}
    assert NAMES[1] not in loaded
    assert {NAMES[0], NAMES[4]} <= loaded
    assert crew.most_used_gb <= TOTAL_GB * 0.9


async def test_models_in_use_are_not_displaced(crew: Crew) -> None:
    worker = crew.worker()
    for name in NAMES[:4]:
        await load(worker, name)
        worker.state.offerings[f"{name}@sim"].in_flight = 1
    await asyncio.sleep(0.4)
    with pytest.raises(LoadRefused):
        await load(worker, NAMES[4])


async def test_without_redis_nothing_is_loaded(crew: Crew) -> None:
    worker = crew.worker(redis_url="redis://127.0.0.1:1")
    with pytest.raises(LoadsUncoordinated):
        await load(worker, NAMES[0])
    assert not crew.box.sim.host.loaded()
    assert worker.local.alone_until > worker.clock()


async def test_a_failed_load_frees_the_host(crew: Crew) -> None:
    worker = crew.worker()
    crew.box.fail("http_error")
    with pytest.raises(UpstreamFault):
        await load(worker, NAMES[0])
    crew.box.recover()
    await load(worker, NAMES[1], patience_s=0)
    assert worker.local.loading == ""


async def test_who_will_not_wait_is_told_how_long_it_takes(crew: Crew) -> None:
    worker = crew.worker()
    first = asyncio.create_task(load(worker, NAMES[0]))
    await until(lambda: told(crew.news, "loading") != [])
    with pytest.raises(HostLoading) as busy:
        await load(worker, NAMES[1], patience_s=0)
    assert busy.value.retry_after_s
    await first


async def test_a_caller_who_leaves_does_not_end_the_load(crew: Crew) -> None:
    worker = crew.worker()
    leaving = asyncio.create_task(load(worker, NAMES[0]))
    staying = asyncio.create_task(load(worker, NAMES[0]))
    await asyncio.sleep(0.02)
    leaving.cancel()
    await staying
    assert told(crew.news, "loaded") == [NAMES[0]]


async def test_sizes_seen_correct_the_plan_and_outlive_it(crew: Crew) -> None:
    worker = crew.worker()
    name = NAMES[0]
    seen = EndpointNews(
        endpoint="sim", up=True, at=time.time(), loaded=(name,), loaded_mb=(3000.0,)
    )
    worker.hear(seen)
    assert worker.state.offerings[f"{name}@sim"].need_gb == pytest.approx(3.15)
    worker.adopt(worker.policy.document)
    assert worker.state.offerings[f"{name}@sim"].need_gb == pytest.approx(3.15)
    again = crew.worker()
    await until(lambda: again.state.offerings[f"{name}@sim"].need_gb > 3)


async def test_another_context_is_another_load(crew: Crew) -> None:
    worker = crew.worker()
    spec: EndpointSpec = worker.policy.endpoints["sim"]
    pinned = OfferingSpec(model=NAMES[0], endpoint="sim", num_ctx=8000)
    worker.adopt(document(MODELS, (spec,), offerings=(pinned,)))
    worker.hear(
        EndpointNews(
            endpoint="sim",
            up=True,
            at=time.time(),
            loaded=(NAMES[0],),
            loaded_mb=(3000.0,),
            loaded_ctx=(4096,),
        )
    )
    assert worker.state.offerings[f"{NAMES[0]}@sim"].need_gb == NEED_GB

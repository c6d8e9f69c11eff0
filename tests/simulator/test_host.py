"""The simulated host follows Ollama's rules of memory and scheduling."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from routing.simulator.host import Host, HostRefusal
from routing.simulator.models import Model
from tests.simulator.cast import BIG, HOST, HUGE, OTHER, SMALL, with_slots

CTX = 4096


async def visit(host: Host, model: Model, *, keep_alive_s: float | None = None) -> None:
    host.release(await host.acquire(model, CTX, keep_alive_s))


def names(host: Host) -> set[str]:
    return {runner.model.name for runner in host.loaded()}


def soon(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(work)


async def test_a_cold_model_takes_its_load_time_and_a_warm_one_none() -> None:
    host = Host(HOST)
    began = time.monotonic()
    assert host.try_acquire(BIG, CTX, None) is None
    await visit(host, BIG)
    assert time.monotonic() - began >= 0.3
    assert host.try_acquire(BIG, CTX, None) is not None
    assert host.totals.loads == 1


async def test_two_small_models_fit_together() -> None:
    host = Host(HOST)
    await visit(host, SMALL)
    await visit(host, OTHER)
    assert names(host) == {"small:1b", "other:1b"}
    assert host.used_bytes == SMALL.memory_bytes(CTX) + OTHER.memory_bytes(CTX)


async def test_what_needs_more_than_80_percent_of_the_free_memory_evicts_the_oldest() -> None:
    host = Host(HOST)
    await visit(host, SMALL)
    await visit(host, OTHER)
    await visit(host, SMALL)
    # 6 - 1.8 GB are free beside one small model; four fifths of that are less than 3.8 GB.
    await visit(host, BIG)
    assert names(host) == {"big:3b"}
    assert host.totals.evictions == 2
    await visit(host, SMALL)
    assert names(host) == {"small:1b"}


async def test_an_idle_model_is_evicted_before_a_busy_one() -> None:
    host = Host(msgspec.structs.replace(HOST, max_loaded=2))
    busy = await host.acquire(SMALL, CTX, 1)
    await visit(host, OTHER, keep_alive_s=-1)
    await visit(host, msgspec.structs.replace(OTHER, name="third:1b"))
    assert names(host) == {"small:1b", "third:1b"}
    host.release(busy)


async def test_the_shortest_keep_alive_goes_first() -> None:
    host = Host(msgspec.structs.replace(HOST, max_loaded=2))
    await visit(host, SMALL, keep_alive_s=-1)
    await visit(host, OTHER, keep_alive_s=60)
    await visit(host, msgspec.structs.replace(OTHER, name="third:1b"))
    assert names(host) == {"small:1b", "third:1b"}


async def test_a_busy_model_is_waited_for_before_it_leaves() -> None:
    host = Host(HOST)
    busy = await host.acquire(BIG, CTX, None)
    waiting = soon(visit(host, SMALL))
    await asyncio.sleep(0.1)
    assert names(host) == {"big:3b"}
    host.release(busy)
    await waiting
    assert names(host) == {"small:1b"}


async def test_a_pending_load_blocks_requests_to_loaded_models() -> None:
    host = Host(HOST)
    await visit(host, SMALL)
    loading = soon(visit(host, OTHER))
    await asyncio.sleep(0)
    assert host.try_acquire(SMALL, CTX, None) is None
    began = time.monotonic()
    await visit(host, SMALL)
    assert time.monotonic() - began >= 0.04
    await loading


async def test_models_load_one_at_a_time() -> None:
    host = Host(HOST)
    began = time.monotonic()
    await asyncio.gather(visit(host, SMALL), visit(host, OTHER))
    assert time.monotonic() - began >= 0.1


async def test_identical_cold_loads_share_one() -> None:
    host = Host(HOST)
    await asyncio.gather(*(visit(host, SMALL) for _ in range(5)))
    assert (host.totals.loads, host.totals.served) == (1, 5)


async def test_another_context_reloads_the_model() -> None:
    host = Host(HOST)
    await visit(host, SMALL)
    host.release(await host.acquire(SMALL, 8192, None))
    assert host.totals.loads == 2
    assert [runner.num_ctx for runner in host.loaded()] == [8192]


async def test_a_model_that_can_never_fit_is_refused_in_ollamas_words() -> None:
    host = Host(HOST)
    with pytest.raises(HostRefusal) as caught:
        await host.acquire(HUGE, CTX, None)
    assert caught.value.status == 500
    assert caught.value.message == (
        "model requires more system memory (65.9 GiB) than is available (5.6 GiB)"
    )
    assert host.waiting == 0


async def test_slots_are_handed_over_in_order() -> None:
    host, model = Host(HOST), with_slots(SMALL, 2)
    first, _second = [await host.acquire(model, CTX, None) for _ in range(2)]
    order: list[int] = []

    async def wait(number: int) -> None:
        await host.acquire(model, CTX, None)
        order.append(number)

    tasks = [soon(wait(number)) for number in range(3)]
    await asyncio.sleep(0.01)
    assert (host.waiting, order) == (3, [])
    for _ in range(3):
        host.release(first)
        await asyncio.sleep(0.01)
    assert order == [0, 1, 2]
    assert first.active == 2
    await asyncio.gather(*tasks)


async def test_a_newcomer_cannot_take_the_slot_of_who_waits() -> None:
    host = Host(HOST)
    runner = await host.acquire(SMALL, CTX, None)
    waiting = soon(host.acquire(SMALL, CTX, None))
    await asyncio.sleep(0.01)
    host.release(runner)
    assert host.try_acquire(SMALL, CTX, None) is None
    assert await waiting is runner
    assert runner.active == 1


async def test_a_caller_who_gives_up_frees_its_place() -> None:
    host = Host(HOST)
    runner = await host.acquire(SMALL, CTX, None)
    patient, hasty = (soon(host.acquire(SMALL, CTX, None)) for _ in range(2))
    await asyncio.sleep(0.01)
    hasty.cancel()
    host.release(runner)
    # Its turn comes in the same moment in which it gives up: the slot must not be lost.
    patient.cancel()
    await asyncio.gather(patient, hasty, return_exceptions=True)
    assert (host.waiting, runner.refs, runner.active) == (0, 0, 0)
    assert host.try_acquire(SMALL, CTX, None) is runner


async def test_giving_up_during_a_load_abandons_it() -> None:
    host = Host(HOST)
    loading = soon(visit(host, BIG))
    await asyncio.sleep(0.05)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    assert (names(host), host.waiting) == (set(), 0)
    await visit(host, SMALL)


async def test_a_full_queue_is_server_busy() -> None:
    host = Host(msgspec.structs.replace(HOST, max_queue=2))
    runner = await host.acquire(SMALL, CTX, None)
    waiting = [soon(host.acquire(SMALL, CTX, None)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(HostRefusal, match="server busy, please try again") as caught:
        await host.acquire(SMALL, CTX, None)
    assert caught.value.status == 503
    for task in waiting:
        host.release(runner)
        await task


async def test_a_model_leaves_when_its_keep_alive_is_over() -> None:
    host = Host(HOST)
    await visit(host, SMALL, keep_alive_s=0.05)
    assert names(host) == {"small:1b"}
    await asyncio.sleep(0.06)
    assert host.try_acquire(SMALL, CTX, None) is None
    assert names(host) == set()


async def test_keep_alive_zero_unloads_after_the_request_and_negative_never() -> None:
    host = Host(HOST)
    await visit(host, SMALL, keep_alive_s=0)
    await visit(host, OTHER, keep_alive_s=-1)
    assert names(host) == {"other:1b"}
    assert host.loaded()[0].expires_in_s(time.monotonic() + 10**9) == float("inf")


async def test_unloading_a_busy_model_waits_for_its_request() -> None:
    host = Host(HOST)
    runner = await host.acquire(SMALL, CTX, None)
    host.unload(SMALL)
    assert names(host) == {"small:1b"}
    host.release(runner)
    assert names(host) == set()
    host.unload(SMALL)

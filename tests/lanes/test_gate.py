"""The way in to an endpoint: who passes, who waits for how long, and who is sent on."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from routing.engine import admission
from routing.engine.catalog import EndpointSpec, Priority
from routing.engine.concurrency import Outcome
from routing.engine.errors import Crowded
from routing.engine.need import Need
from routing.lanes.gate import Gate
from tests.cast import CLOUD, HERE, PLAIN, SAGE, TINY, Fleet, document
from tests.waiting import soon

SERVICE_S = 0.02
ONE = replace(CLOUD, max_concurrency=1)
ROOMY = replace(HERE, max_concurrency=4)


@dataclass
class House:
    """A gate before endpoints that take `SERVICE_S` for everything."""

    fleet: Fleet
    gate: Gate = field(default_factory=lambda: Gate(time.monotonic))
    running: int = 0
    most: int = 0
    order: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def candidate(self, offering: str) -> Any:
        return next(c for c in self.fleet.policy.candidates if c.id == offering)

    async def call(
        self,
        offering: str,
        priority: Priority = "normal",
        *,
        name: str = "",
        longest_s: float = 10.0,
        service_s: float = SERVICE_S,
        on_wait: Any = None,
    ) -> float:
        """Make one call; return how long it waited to begin, in seconds."""
        began = time.monotonic()
        candidate, live = self.candidate(offering), self.fleet.live(offering)
        need = Need(task="completion", priority=priority)
        passed = self.gate.try_enter(candidate, live, need) or await self.gate.enter(
            candidate, live, need, longest_s=longest_s, on_wait=on_wait
        )
        waited_s = time.monotonic() - began
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(name or offering)
        if passed.cold:
            self.loads.append(offering)
        try:
            await asyncio.sleep(service_s)
        finally:
            self.running -= 1
            passed.leave(Outcome())
        return waited_s

    def way(self, endpoint: str) -> Any:
        return self.gate.ways[endpoint]

    def quiet(self) -> bool:
        return all(w.slots.in_use == 0 and not w.waiters for w in self.gate.ways.values())


def house(*endpoints: EndpointSpec, models: Any = (PLAIN, SAGE, TINY)) -> House:
    made = House(Fleet.of(document(models, endpoints)))
    made.gate.bind(made.fleet.policy, made.fleet.state)
    for way in made.gate.ways.values():
        way.queue.service_s = SERVICE_S
    made.fleet.now = time.monotonic()
    made.fleet.measure("local", available_gb=60, total_gb=64)
    return made


async def test_no_more_calls_than_places() -> None:
    at = house(replace(CLOUD, max_concurrency=3))
    await asyncio.gather(*(at.call("plain@cloud") for _ in range(12)))
    assert at.most == 3
    assert at.quiet()


async def test_a_flood_of_low_priority_costs_others_one_service_time() -> None:
    at = house(ONE)
    flood = [asyncio.create_task(at.call("plain@cloud", "low")) for _ in range(40)]
    await asyncio.sleep(0.1)
    assert await at.call("plain@cloud") < 2 * SERVICE_S
    await asyncio.gather(*flood)


async def test_who_waits_is_told_its_position_and_expected_wait() -> None:
    at, told = house(ONE), []
    calls = [
        at.call("plain@cloud", on_wait=lambda position, ms: told.append((position, ms)))
        for _ in range(4)
    ]
    await asyncio.gather(*calls)
    assert told == [(1, 20), (2, 40), (3, 60)]


async def test_a_full_queue_refuses_at_once_and_low_priority_first() -> None:
    at = house(replace(ONE, max_queue=4))
    calls = [asyncio.create_task(at.call("plain@cloud", "critical")) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Crowded, match="as many requests waiting"):
        await at.call("plain@cloud", "low")
    calls.append(asyncio.create_task(at.call("plain@cloud", "high")))
    await asyncio.gather(*calls)


async def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    at = house(ONE)
    first = asyncio.create_task(at.call("plain@cloud"))
    await asyncio.sleep(0)
    began = time.monotonic()
    with pytest.raises(Crowded, match="too late"):
        await at.call("plain@cloud", longest_s=SERVICE_S / 2)
    assert time.monotonic() - began < SERVICE_S / 2
    await first


async def test_who_waited_its_longest_is_sent_on() -> None:
    at = house(ONE)
    first = asyncio.create_task(at.call("plain@cloud", service_s=0.5))
    await asyncio.sleep(0)
    with pytest.raises(Crowded, match="in time"):
        await at.call("plain@cloud", longest_s=0.1)
    assert not first.done()
    await first
    assert at.quiet()


async def test_a_caller_who_leaves_frees_its_place_in_the_queue() -> None:
    at = house(ONE)
    calls = [asyncio.create_task(at.call("plain@cloud", name=str(i))) for i in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert at.order == ["0", "2"]
    assert at.quiet()


async def test_the_decision_sees_the_wait() -> None:
    at = house(ONE)
    state = at.fleet.state.endpoint("cloud")
    assert (state.wait_ms, state.free_slots) == (0.0, 1)
    calls = [asyncio.create_task(at.call("plain@cloud")) for _ in range(3)]
    await asyncio.sleep(0)
    assert state.free_slots == 0
    assert state.wait_ms == pytest.approx(60)
    await asyncio.gather(*calls)
    assert state.wait_ms == 0.0


async def test_loaded_models_pass_while_another_one_loads() -> None:
    at = house(ROOMY)
    at.fleet.probe("here", up=True, loaded=frozenset({"plain"}))
    loading = asyncio.create_task(at.call("sage@here", service_s=0.3))
    await soon(lambda: at.loads == ["sage@here"])
    second = asyncio.create_task(at.call("tiny@here", service_s=0.01))
    await asyncio.sleep(0.01)
    for _ in range(5):
        assert await at.call("plain@here", service_s=0.001) < 0.05
    assert at.loads == ["sage@here"], "one load a host at a time"
    await asyncio.gather(loading, second)
    assert at.loads == ["sage@here", "tiny@here"]
    assert at.quiet()


async def test_a_model_that_answers_is_loaded_for_the_others_too() -> None:
    at = house(ROOMY)
    candidate, live = at.candidate("sage@here"), at.fleet.live("sage@here")
    need = Need(task="completion")
    passed = await at.gate.enter(candidate, live, need, longest_s=1)
    second = asyncio.create_task(at.call("sage@here"))
    await asyncio.sleep(0.01)
    assert at.order == []
    passed.answering(None)
    await second
    passed.leave(Outcome())
    assert at.loads == []
    assert at.quiet()


@pytest.mark.parametrize("patience", [0.0, 0.5])
async def test_two_models_that_do_not_fit_together_do_not_thrash(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(admission, "BATCHING_SHARE", patience)
    big = [replace(model, ram_required_gb=40.0) for model in (PLAIN, SAGE)]
    at = house(replace(HERE, max_concurrency=1, min_residency_s=0.3), models=big)
    at.fleet.measure("local", available_gb=20, total_gb=64)
    evicted = {"plain@here": "sage", "sage@here": "plain"}
    end = time.monotonic() + 1.5

    async def client(offering: str) -> int:
        served = 0
        while time.monotonic() < end:
            await at.call(offering, service_s=0.01, longest_s=0.8)
            if at.loads[-1:] == [offering]:
                state = at.fleet.state.endpoint("here")
                at.fleet.probe("here", loaded=state.loaded - {evicted[offering]})
            served += 1
        return served

    served = await asyncio.gather(*(client(o) for o in ("plain@here", "sage@here") * 2))
    assert 2 <= len(at.loads) <= 1.5 / 0.3 + 2
    assert min(served) >= 3


class SlowLoader:
    """Loads in 50 ms, one model at a time; busy with somebody else's load as often as told."""

    def __init__(self, at: House, busy: int = 0) -> None:
        self.at, self.busy, self.loading = at, busy, 0

    def needs(self, candidate: Any, live: Any) -> bool:
        return not live.loaded

    async def load(self, candidate: Any, live: Any, need: Need, deadline: float) -> bool:
        if self.busy:
            self.busy -= 1
            return False
        self.loading += 1
        assert self.loading == 1
        try:
            await asyncio.sleep(0.05)
        finally:
            self.loading -= 1
        self.at.loads.append(candidate.id)
        live.endpoint.loaded |= {candidate.upstream_model}
        self.at.fleet.state.endpoint_changed("here")
        return True


@pytest.mark.parametrize("busy", [0, 1])
async def test_a_load_takes_no_place_from_loaded_models(busy: int) -> None:
    at = house(replace(HERE, max_concurrency=1))
    at.gate.loader = SlowLoader(at, busy)
    at.fleet.probe("here", up=True, loaded=frozenset({"plain"}))
    cold = [asyncio.create_task(at.call("sage@here")) for _ in range(3)]
    cold.append(asyncio.create_task(at.call("tiny@here")))
    await asyncio.sleep(0.01)
    assert await at.call("plain@here", service_s=0.001) < 0.02
    await asyncio.gather(*cold)
    assert at.loads == ["sage@here", "tiny@here"]
    assert at.most == 1
    assert at.quiet()


async def test_who_leaves_while_it_loads_leaves_the_load_to_the_next() -> None:
    at = house(replace(HERE, max_concurrency=1))
    at.gate.loader = SlowLoader(at)
    first = asyncio.create_task(at.call("sage@here"))
    second = asyncio.create_task(at.call("tiny@here"))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.wait_for(second, 2)
    assert at.loads == ["tiny@here"]
    assert at.quiet()


async def test_the_limit_follows_what_the_endpoint_bears() -> None:
    at = house(HERE)
    at.fleet.probe("here", up=True, loaded=frozenset({"plain"}))
    end = time.monotonic() + 1.0

    async def client() -> None:
        while time.monotonic() < end:
            await at.call("plain@here", service_s=0.002)

    await asyncio.gather(*(client() for _ in range(32)))
    assert at.way("here").slots.limit >= 32


async def test_a_policy_that_moves_an_endpoint_sends_the_waiting_on() -> None:
    at = house(ONE)
    calls = [asyncio.create_task(at.call("plain@cloud")) for _ in range(2)]
    await asyncio.sleep(0)
    moved = Fleet.of(document((PLAIN,), (replace(ONE, base_url="http://127.0.0.1:2"),)))
    at.gate.bind(moved.policy, moved.state)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], Crowded)
    assert at.quiet()

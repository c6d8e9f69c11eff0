"""What a cold load needs, what it displaces, and what is said of it."""

from typing import Any

import pytest

from routing.engine.catalog import EndpointSpec, OfferingSpec
from routing.engine.decide import explain
from routing.engine.errors import NoCandidate
from routing.engine.memory import Learned, Resident, eviction
from routing.engine.need import Need
from routing.engine.refusal import displaced
from routing.engine.scoring import expected_ms
from tests.cast import Fleet, document, model

HERE = EndpointSpec(
    name="here", provider="ollama", base_url="http://127.0.0.1:1", host="box", min_residency_s=10
)
BIG = model("big", ram_required_gb=6.0)
OTHER = model("other", ram_required_gb=5.0)


def resident(name: str, used_at: float, **more: Any) -> Resident:
    return Resident(name, **{"size_gb": 2.0, "loaded_at": 0.0, "used_at": used_at, **more})


def test_the_least_recently_used_go_first_and_no_more_than_needed() -> None:
    old, new, newest = resident("a", 10), resident("b", 20), resident("c", 30)
    held = (newest, old, new)
    assert eviction(held, 0, now=100, min_residency_s=10) == ()
    assert eviction(held, 2, now=100, min_residency_s=10) == (old,)
    assert eviction(held, 2.1, now=100, min_residency_s=10) == (old, new)
    assert eviction(held, 6.1, now=100, min_residency_s=10) is None


def test_models_in_use_or_just_loaded_stay() -> None:
    held = (resident("busy", 1, in_flight=1), resident("young", 2, loaded_at=95))
    assert eviction(held, 1, now=100, min_residency_s=10) is None
    assert eviction(held, 1, now=105, min_residency_s=10) == (held[1],)


def test_what_another_worker_uses_stays_for_a_while() -> None:
    held = (resident("used", 1, kept_until=110), resident("young", 2, loaded_at=95))
    assert eviction(held, 1, now=105, min_residency_s=10) == (held[1],)
    assert eviction(held, 1, now=110, min_residency_s=10) == (held[0],)


def test_a_slower_load_is_believed_at_once_and_a_faster_one_slowly() -> None:
    learned = Learned()
    for took_ms, known_ms in ((1000, 1000), (3000, 3000), (2000, 2700)):
        learned.see_load(took_ms)
        assert learned.load_ms == pytest.approx(known_ms)


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet.of(document((BIG, OTHER), (HERE,)))
    made.measure("box", available_gb=8.0, total_gb=20.0)
    return made


def refused(fleet: Fleet) -> str:
    rows = explain(fleet.policy, fleet.state, Need(task="completion", model="big"), fleet.now)
    (row,) = [r for r in rows if r.candidate.model_name == "big"]
    return row.rejection.detail if row.rejection else ""


def test_a_pinned_context_counts(fleet: Fleet) -> None:
    spec = model("big", ram_required_gb=6.0, kv_mb_per_1k_tokens=100.0)
    pinned = OfferingSpec(model="big", endpoint="here", num_ctx=8096)
    fleet = Fleet.of(document((spec,), (HERE,), offerings=(pinned,)))
    assert fleet.live("big@here").need_gb == pytest.approx(6.4)


def test_what_was_seen_stands_for_the_plan_across_policies(fleet: Fleet) -> None:
    live = fleet.live("big@here")
    fleet.state.learn_load(live.load_key, need_gb=7.0, load_ms=900.0)
    fleet.state.bind(fleet.policy)
    assert (live.need_gb, live.load_ms) == (7.0, 900.0)
    assert refused(fleet) == "needs 7.0 GB, 6.0 GB may be used"


def test_memory_reserved_for_another_load_is_not_free(fleet: Fleet) -> None:
    host = fleet.state.host("box")
    key = fleet.live("other@here").load_key
    host.note_load(key, 5.0, ready_at=fleet.now + 4, lapses_at=fleet.now + 9, now=fleet.now)
    assert refused(fleet) == "needs 6.0 GB, 1.0 GB may be used, 5.0 GB reserved for here/other"
    # What the load has taken by now is in the measurement, and counted once.
    fleet.measure("box", available_gb=5.0, total_gb=20.0)
    host.lapse(fleet.now)
    assert host.reserved_gb == pytest.approx(2.0)
    host.lapse(fleet.now + 9)
    assert host.reserved_gb == 0


def test_a_load_waits_for_the_one_under_way(fleet: Fleet) -> None:
    big, other = fleet.live("big@here"), fleet.live("other@here")
    candidate, need = fleet.policy.by_id["big@here"], Need(task="completion")
    alone_ms = expected_ms(candidate, big, need, fleet.now)
    host = fleet.state.host("box")
    host.note_load(
        other.load_key, 0.1, ready_at=fleet.now + 4, lapses_at=fleet.now + 9, now=fleet.now
    )
    assert expected_ms(candidate, big, need, fleet.now) == pytest.approx(alone_ms + 4000)
    host.forget_load(other.load_key, fleet.now)
    host.note_load(
        big.load_key, 6.0, ready_at=fleet.now + 4, lapses_at=fleet.now + 9, now=fleet.now
    )
    joined_ms = expected_ms(candidate, big, need, fleet.now)
    assert joined_ms == pytest.approx(alone_ms - big.load_ms + 4000)


def test_displacing_a_model_makes_room_and_costs_its_return(fleet: Fleet) -> None:
    fleet.measure("box", available_gb=4.0, total_gb=20.0)
    big, other = fleet.live("big@here"), fleet.live("other@here")
    with pytest.raises(NoCandidate):
        fleet.decide(model="big")
    fleet.probe("here", loaded=frozenset({"other"}), sizes_gb={"other": 5.0})
    victims = displaced(big, fleet.state.host("box"), fleet.now, critical=False)
    assert [v.model for v in victims or ()] == ["other"]
    assert fleet.decide(model="big").chosen.id == "big@here"
    candidate, need = fleet.policy.by_id["big@here"], Need(task="completion")
    idle_ms = expected_ms(candidate, big, need, fleet.now)
    other.used_at = fleet.now
    used_ms = expected_ms(candidate, big, need, fleet.now)
    assert used_ms > idle_ms + other.load_ms * 0.9
    other.in_flight = 1
    with pytest.raises(NoCandidate):
        fleet.decide(model="big")


def test_while_loads_cannot_be_coordinated_only_loaded_models_are_used(fleet: Fleet) -> None:
    fleet.state.host("box").alone_until = fleet.now + 1
    with pytest.raises(NoCandidate) as nobody:
        fleet.decide()
    assert {r.reason for r in nobody.value.rejections} == {"uncoordinated"}
    fleet.probe("here", loaded=frozenset({"other"}))
    assert fleet.decide().chosen.id == "other@here"

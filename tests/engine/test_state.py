"""What a worker's picture takes from news and from answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.engine.catalog import OfferingSpec
from routing.engine.errors import NoCandidate
from routing.engine.policy import Policy
from routing.engine.state import EWMA_ALPHA, HostState
from tests.cast import CLOUD, HERE, PLAIN, SAGE, Fleet, document, model

times_ms = st.floats(0, 1e7)


@pytest.mark.parametrize(
    ("ours", "theirs", "loaded"),
    [
        ("x", "x", True),
        ("x", "x:latest", True),
        ("x:latest", "x", True),
        ("x:7b", "x:7b", True),
        ("x:7b", "x", False),
        ("x", "x:7b", False),
        ("x:7b", "x:7b:latest", False),
    ],
)
def test_latest_is_the_tag_of_a_name_without_one(ours: str, theirs: str, loaded: bool) -> None:
    fleet = Fleet.of(document((model(ours),), (HERE,)))
    fleet.probe("here", up=True, loaded=frozenset({theirs}), available=frozenset({theirs}))
    live = fleet.live(f"{ours}@here")
    assert (live.loaded, live.unusable) == (loaded, "" if loaded else "not_offered")


def test_the_upstream_name_is_what_the_prober_sees() -> None:
    offering = OfferingSpec(model="plain", endpoint="here", upstream_model="vendor/plain")
    fleet = Fleet.of(document((PLAIN,), (HERE,), offerings=(offering,)))
    fleet.probe("here", up=True, loaded=frozenset({"vendor/plain"}))
    assert fleet.live("plain@here").loaded


def test_an_endpoint_without_a_host_is_always_warm() -> None:
    assert Fleet.of(document((PLAIN,), (CLOUD,))).live("plain@cloud").loaded


def test_a_new_policy_keeps_what_is_known_and_forgets_the_dropped() -> None:
    fleet = Fleet.of(document((PLAIN, SAGE)))
    known = fleet.live("plain@cloud")
    fleet.trip("plain@cloud")
    fleet.state.bind(Policy(document((PLAIN,))))
    assert fleet.state.live == [known]
    assert fleet.live("plain@cloud").breaker.openings == 1
    assert "sage@cloud" not in fleet.state.offerings


def test_news_that_came_before_the_policy_are_not_lost() -> None:
    fleet = Fleet.of(document(()))
    fleet.probe("here", up=False)
    fleet.state.model_health("sage", "", healthy=False)
    fleet.state.bind(Policy(document((PLAIN, SAGE), (HERE, CLOUD))))
    assert fleet.live("plain@here").unusable == "endpoint_down"
    assert fleet.live("sage@cloud").unusable == "unhealthy"


def test_health_may_concern_one_endpoint_only() -> None:
    fleet = Fleet.of(document((PLAIN,), (HERE, CLOUD)))
    fleet.state.model_health("plain", "here", healthy=False)
    assert (fleet.live("plain@here").unusable, fleet.live("plain@cloud").unusable) == (
        "unhealthy",
        "",
    )
    fleet.state.model_health("plain", "here", healthy=True)
    assert fleet.live("plain@here").unusable == ""


@given(st.lists(st.tuples(times_ms, st.integers(0, 10_000), st.none() | times_ms), max_size=30))
def test_averages_stay_possible_whatever_upstreams_claim(
    answers: list[tuple[float, int, float | None]],
) -> None:
    fleet = Fleet.of(document((PLAIN,)))
    live = fleet.live("plain@cloud")
    for whole_ms, tokens, ttft_ms in answers:
        fleet.state.observe(live, duration_ms=whole_ms, output_tokens=tokens, ttft_ms=ttft_ms)
        assert live.ttft_ms >= 0
        assert live.ms_per_token >= 0
        assert fleet.state.least_ttft_ms <= live.ttft_ms
        assert fleet.state.least_ms_per_token <= live.ms_per_token
        assert 0 <= live.success_rate <= 1


@given(st.lists(st.booleans(), max_size=50))
def test_the_success_rate_stays_a_share(outcomes: list[bool]) -> None:
    live = Fleet.of(document((PLAIN,))).live("plain@cloud")
    for succeeded in outcomes:
        if succeeded:
            live.observe(duration_ms=10, output_tokens=1, ttft_ms=5)
        else:
            live.observe_failure()
        assert 0 <= live.success_rate <= 1


def test_averages_move_a_fifth_of_the_way() -> None:
    live = Fleet.of(document((PLAIN,))).live("plain@cloud")
    before = live.ttft_ms
    live.observe(duration_ms=1250, output_tokens=10, ttft_ms=1150)
    assert live.ttft_ms == before + EWMA_ALPHA * (1150 - before)
    assert live.ms_per_token == pytest.approx(15 + EWMA_ALPHA * (10 - 15))


def test_steady_answers_are_learnt() -> None:
    live = Fleet.of(document((SAGE,))).live("sage@cloud")
    for _ in range(60):
        live.observe(duration_ms=100 + 50 * 4.0, output_tokens=50, ttft_ms=100)
    assert [live.ttft_ms, live.ms_per_token] == pytest.approx([100, 4], rel=0.01)


def test_whole_answers_scale_both_averages_alike() -> None:
    live = Fleet.of(document((PLAIN,))).live("plain@cloud")
    for _ in range(60):
        live.observe(duration_ms=2 * (250 + 15 * 100), output_tokens=100, ttft_ms=None)
    assert [live.ttft_ms, live.ms_per_token] == pytest.approx([500, 30], rel=0.01)


@pytest.mark.parametrize(
    ("pressure", "level"),
    [(0.69, "normal"), (0.70, "elevated"), (0.80, "high"), (0.90, "critical"), (1.0, "critical")],
)
def test_pressure_has_four_levels(pressure: float, level: str) -> None:
    assert HostState("h", pressure=pressure).level == level


def test_an_old_measurement_of_a_host_is_none() -> None:
    fleet = Fleet.of(document((model("large", ram_required_gb=1),), (HERE,)))
    fleet.measure("local", available_gb=8, total_gb=10)
    fleet.decide()
    fleet.now += 61
    with pytest.raises(NoCandidate) as caught:
        fleet.decide()
    assert [r.reason for r in caught.value.rejections] == ["memory_unknown"]


def test_another_server_under_the_same_name_starts_afresh() -> None:
    fleet = Fleet.of(document((PLAIN,), (HERE, CLOUD)))
    fleet.trip("plain@here")
    fleet.trip("plain@cloud")
    fleet.probe("here", up=False)
    fleet.state.forget_endpoint("here")
    assert fleet.live("plain@here").unusable == ""
    assert fleet.live("plain@here").breaker.allows(fleet.now)
    assert not fleet.live("plain@cloud").breaker.allows(fleet.now)

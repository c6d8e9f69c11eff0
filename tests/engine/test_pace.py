"""When an answer was slow, and how long a queue may take."""

import pytest

from routing.engine.pace import UsualPace, generation_ms
from tests.cast import CLOUD, HERE, PLAIN, TINY, Fleet, document


def usual(ms_per_token: float = 20.0, answers: int = 10) -> UsualPace:
    pace = UsualPace()
    for _ in range(answers):
        pace.judge(ms_per_token * 100, 100)
    return pace


@pytest.mark.parametrize(
    ("took_ms", "tokens", "slow"),
    [
        (15_000, 100, True),  # 150 ms a token instead of 20
        (9_900, 100, False),  # below the floor
        (20_000, 1000, False),  # long, at its usual pace
        (61_000, 1000, True),
        (59_000, 1000, False),
        (60_000, 0, False),  # nobody counted its tokens
    ],
)
def test_slow_is_three_times_its_usual_pace_and_over_ten_seconds(
    took_ms: float, tokens: int, slow: bool
) -> None:
    assert usual().judge(took_ms, tokens) is slow


def test_nothing_is_slow_before_ten_answers() -> None:
    assert not usual(answers=9).judge(60_000, 100)


def test_an_upstream_that_slows_down_is_called_slow_often_enough_to_trip_and_not_for_ever() -> None:
    pace = usual()
    slow = [pace.judge(20_000, 100) for _ in range(200)]
    assert all(slow[:10])
    assert not slow[-1]


def test_neither_queue_nor_first_token_nor_load_is_generation() -> None:
    assert generation_ms(duration_ms=900, ttft_ms=800, work_ms=0, queues=True) == 100
    assert generation_ms(duration_ms=900, ttft_ms=None, work_ms=70, queues=True) == 70
    assert generation_ms(duration_ms=900, ttft_ms=None, work_ms=0, queues=True) == 0
    assert generation_ms(duration_ms=900, ttft_ms=None, work_ms=0, queues=False) == 900


def test_a_queue_is_all_that_is_in_flight_at_the_endpoint() -> None:
    fleet = Fleet.of(document((PLAIN, TINY), (HERE, CLOUD)))
    plain, tiny = fleet.live("plain@here"), fleet.live("tiny@here")
    for live in (plain, tiny):
        live.ttft_ms, live.ms_per_token = 500.0, 10.0
    assert plain.queue_ms(100) == 0
    plain.in_flight, tiny.in_flight = 3, 2  # this one's own request is counted among the three
    assert plain.queue_ms(100) == 4 * 1500
    fleet.live("plain@cloud").in_flight = 9
    assert fleet.live("plain@cloud").queue_ms(100) == 0
    fleet.state.forget_endpoint("here")
    assert plain.queue_ms(100) == 4 * 1500

"""How long a whole answer may take."""

import pytest

from routing.engine.catalog import EndpointSpec
from routing.engine.need import Need
from routing.engine.scoring import expected_ms
from routing.lanes.limits import whole_s
from tests.cast import Fleet, document, model

CLOUD = EndpointSpec(name="cloud", provider="openai", base_url="http://127.0.0.1:1")
NEED = Need(task="completion")


@pytest.mark.parametrize(
    ("speed", "left_s", "others", "share_of_expected", "allowed_s"),
    [
        # 7.9, 21.1 and 63 s are expected of models that were never measured.
        ("fast", 120, True, 3, None),
        ("medium", 120, True, 0, 60),
        ("slow", 120, True, 1, None),
        ("medium", 120, False, 3, None),
        ("slow", 120, False, 0, 120),
        ("fast", 5, True, 0, 5),
    ],
)
def test_half_of_what_is_left_is_kept_for_others(
    speed: str, left_s: float, others: bool, share_of_expected: int, allowed_s: float | None
) -> None:
    fleet = Fleet.of(document((model("m", speed=speed),), (CLOUD,)))
    candidate = fleet.policy.by_id["m@cloud"]
    live = fleet.state.live[candidate.index]
    expected_s = expected_ms(candidate, live, NEED) / 1000
    wanted_s = 15 + share_of_expected * expected_s if allowed_s is None else allowed_s
    given_s = whole_s(candidate, live, NEED, left_s=left_s, others=others)
    assert given_s == pytest.approx(wanted_s)

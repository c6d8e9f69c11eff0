"""An engine on a machine too small for its models: who chooses decides whether it lives."""

import pytest

from tests.chaos import oom
from tests.chaos.arrivals import bursty
from tests.chaos.house import folder

LEAST_SERVED = 0.95


@pytest.mark.timeout(120)
async def test_choosing_the_first_available_model_kills_it_and_the_orchestra_never_does() -> None:
    arrivals = bursty(240, 12, seed=3)
    with folder() as place:
        first, ours = await oom.compare(arrivals, place, speed=2.0)
    assert first.deaths >= 2
    assert ours.deaths == 0
    # Nor does it live by refusing everybody.
    assert ours.served >= max(first.served, LEAST_SERVED * len(arrivals)), ours

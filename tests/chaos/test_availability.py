"""Endpoints fail in every way under load; the long version is `make chaos`."""

import pytest

from tests.chaos import availability
from tests.chaos.availability import Plan
from tests.chaos.house import folder


@pytest.mark.timeout(150)
async def test_callers_get_whole_answers_while_endpoints_fail() -> None:
    # A thousand callers: fewer cannot tell 99.9 %.
    plan = Plan(seconds=25, rate=40, seed=1, deadline_s=35, longest_s=5)
    with folder() as place:
        result = await availability.measure(place, plan)
    assert result.absorbed > 0
    assert result.faults == [], (result.tally.errors, result.tally.oddities)

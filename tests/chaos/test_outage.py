"""Redis and PostgreSQL go away and come back; the long version is `make chaos`."""

import pytest

from tests.chaos import outage
from tests.chaos.house import folder


@pytest.mark.timeout(120)
async def test_decisions_go_on_and_nothing_is_missing_afterwards() -> None:
    with folder() as place:
        result = await outage.measure(place, rate=30, outage_s=2)
    assert result.faults == [], (result.outages, result.tally.errors)

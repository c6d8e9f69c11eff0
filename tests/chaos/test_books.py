"""Killing processes loses no record and doubles none; the long version is `make chaos`."""

import pytest

from tests.chaos import books
from tests.chaos.house import folder


@pytest.mark.timeout(240)
async def test_every_answer_has_its_record_whoever_is_killed() -> None:
    with folder() as place:
        result = await books.measure(place, seconds=12, seed=1)
    assert result.faults == [], (result.killed, result.told.refused)
    assert len(result.told.answered) > 200
    assert result.killed["postgres"] == 1

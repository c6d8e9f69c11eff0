"""Request identities: UUIDv7 by the book."""

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from routing.lanes.ids import new_id


@given(st.integers(0, 2**48 * 10**6 - 1))
def test_it_is_a_uuid_of_version_seven(now_ns: int) -> None:
    raw, text = new_id(now_ns)
    parsed = uuid.UUID(text)
    assert parsed.bytes == raw
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(raw[:6], "big") == now_ns // 1_000_000


def test_later_ones_sort_later() -> None:
    first, _ = new_id(time.time_ns())
    second, _ = new_id(time.time_ns() + 1_000_000)
    assert first < second


def test_those_of_one_instant_differ() -> None:
    assert len({new_id(0)[1] for _ in range(10_000)}) == 10_000

"""What lies in a segment is found again, whatever happened to the bytes around it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.spool.frame import HEADER, MAGIC, frame, parse

payloads = st.lists(st.binary(max_size=60), max_size=8)


@given(payloads)
def test_frames_are_cut_apart_again(contents: list[bytes]) -> None:
    piece = b"".join(map(frame, contents))
    parsed = parse(piece, complete=True)
    assert parsed.payloads == contents
    assert parsed.damages == []
    assert parsed.end == len(piece)


@given(payloads, st.binary(max_size=60), st.data())
def test_a_torn_end_waits_in_a_live_segment_and_is_damage_in_a_dead_one(
    contents: list[bytes], last: bytes, data: st.DataObject
) -> None:
    whole = b"".join(map(frame, contents))
    torn = frame(last)[: data.draw(st.integers(1, len(last) + HEADER.size - 1))]
    live = parse(whole + torn, complete=False)
    assert (live.payloads, live.damages, live.end) == (contents, [], len(whole))
    dead = parse(whole + torn, complete=True)
    assert (dead.payloads, dead.end) == (contents, len(whole + torn))
    assert [(d.start, d.end) for d in dead.damages] == [(len(whole), len(whole + torn))]


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_byte_costs_one_frame_and_no_other(content: bytes, data: st.DataObject) -> None:
    before, hurt, after = frame(b"before"), bytearray(frame(content)), frame(b"after")
    hurt[data.draw(st.integers(0, len(hurt) - 1))] ^= data.draw(st.integers(1, 255))
    parsed = parse(before + bytes(hurt) + after, complete=False)
    assert parsed.payloads[0] == b"before"
    assert parsed.payloads[-1] == b"after"
    assert content not in parsed.payloads[1:-1]
    assert parsed.damages


def test_a_frame_inside_a_payload_is_not_taken_for_one() -> None:
    inner = frame(b"inner")
    parsed = parse(frame(b"x" + inner), complete=True)
    assert parsed.payloads == [b"x" + inner]


@pytest.mark.parametrize("value", [b"\xc1", {"a": [1.5, "ä", None]}, 2**63])
def test_the_magic_begins_with_a_byte_that_messagepack_does_not_start_a_value_with(
    value: object,
) -> None:
    assert msgspec.msgpack.encode(value)[0] != MAGIC[0]

"""What may lie in a spool that nobody can read, beside what everybody can."""

from pathlib import Path

import msgspec

from telemetry.spool.frame import frame
from telemetry.spool.layout import SEGMENT_SUFFIX, WRITER_LOCK, is_locked, segments
from tests.telemetry.records import a_record

GHOST = "ghost"
PLANTED = 50  # good frames among the damaged ones
PIECES = 2  # damaged ones of a ghost
TORN_BYTES = 50


def plant(spool_dir: Path, number: int = 0) -> None:
    """Leave what a dead worker may leave: good frames, one damaged among them, and a torn end."""
    first = number * (PLANTED + 1)
    frames = [_frame(first + n) for n in range(PLANTED)]
    middle = PLANTED // 2
    damaged, torn = _flipped(_frame(first + PLANTED)), frames[0][:TORN_BYTES]
    directory = spool_dir / f"{GHOST}-{number}"
    directory.mkdir(parents=True)
    # Nobody may read it before it is whole: to a reader, a dead worker writes no more.
    draft = directory / f"{1:020d}.new"
    draft.write_bytes(b"".join([*frames[:middle], damaged, *frames[middle:], torn]))
    draft.rename(draft.with_suffix(SEGMENT_SUFFIX))


def splice(directory: Path) -> bool:
    """Put a torn and a damaged frame, one piece in a row, into a living worker's segment.

    Returns False where no worker lives that has one.
    """
    if not is_locked(directory / WRITER_LOCK) or not (found := segments(directory)):
        return False
    with found[-1].open("ab", buffering=0) as segment:
        segment.write(_frame(0)[:TORN_BYTES] + _flipped(_frame(0)))
    return True


def _frame(number: int) -> bytes:
    return frame(msgspec.msgpack.encode(a_record(number, worker=GHOST)))


def _flipped(whole: bytes) -> bytes:
    return whole[:40] + bytes([whole[40] ^ 0xFF]) + whole[41:]

"""The frame: how one record lies in a segment file.

    magic (4 bytes) | payload length (u32, little endian) | CRC-32 of the payload (u32) | payload

The payload is one `RequestRecord` as MessagePack. The magic starts with 0xC1, the one byte that
MessagePack never uses, so that the next good frame behind a damaged one can be searched for.
"""

import struct
import zlib
from dataclasses import dataclass

import msgspec

from telemetry.record import RequestRecord

MAGIC = b"\xc1AO1"
HEADER = struct.Struct("<4sII")
# A record is some 250 bytes; anything near this is damage, not data.
MAX_PAYLOAD_BYTES = 1 << 20

decode_record = msgspec.msgpack.Decoder(RequestRecord).decode


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes `start` to `end` of a parsed piece that hold no good frame."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a piece of a segment holds; bytes from `end` on need more data behind them."""

    payloads: list[bytes]
    ends: list[int]  # where each payload's frame ends, counted from the start of the piece
    damages: list[Damage]
    end: int


def frame(payload: bytes) -> bytes:
    """Return `payload` with its header in front."""
    return HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def parse(piece: bytes, *, complete: bool) -> Parsed:
    """Cut a piece of a segment into payloads, stepping over damage.

    `complete` says that nothing will ever follow: an unfinished frame at the end is then damage.
    Otherwise it is left for the next piece, unless a good frame stands behind it: with a single
    appending writer that proves it damaged.
    """
    found = Parsed([], [], [], 0)
    at = 0
    while at < len(piece):
        end = _frame_end(piece, at)
        if end:
            found.payloads.append(piece[at + HEADER.size : end])
            found.ends.append(end)
            at = end
            continue
        behind = _next_frame(piece, at + 1)
        if behind is None and not complete:
            break
        stop = len(piece) if behind is None else behind
        found.damages.append(Damage(at, stop, _why(piece, at)))
        at = stop
    return Parsed(found.payloads, found.ends, found.damages, at)


def _frame_end(piece: bytes, at: int) -> int:
    """Return where the good frame that starts at `at` ends; 0 where there is none."""
    start = at + HEADER.size
    if start > len(piece):
        return 0
    magic, length, checksum = HEADER.unpack_from(piece, at)
    end: int = start + length
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES or end > len(piece):
        return 0
    return end if zlib.crc32(memoryview(piece)[start:end]) == checksum else 0


def _next_frame(piece: bytes, at: int) -> int | None:
    while (at := piece.find(MAGIC, at)) >= 0:
        if _frame_end(piece, at):
            return at
        at += 1
    return None


def _why(piece: bytes, at: int) -> str:
    if len(piece) - at < HEADER.size:
        return "torn header"
    magic, length, _ = HEADER.unpack_from(piece, at)
    if magic != MAGIC:
        return "no frame starts here"
    if length > MAX_PAYLOAD_BYTES:
        return f"impossible length {length}"
    return "torn frame" if at + HEADER.size + length > len(piece) else "checksum differs"

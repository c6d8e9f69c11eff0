"""Tails every worker's segments, oldest first, and gives back what is safely elsewhere."""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from telemetry.record import RequestRecord
from telemetry.spool.frame import Damage, decode_record, parse
from telemetry.spool.layout import (
    CORRUPT_DIR,
    SHIPPED_SUFFIX,
    WRITER_LOCK,
    is_locked,
    read_shipped,
    segments,
    worker_directories,
)

logger = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Mark:
    """Everything of `segment` before `end` is in the batch or came before it."""

    segment: Path
    end: int
    finished: bool  # nothing follows: the segment can go once the batch is safe


@dataclass(slots=True)
class SpoolBatch:
    """Records to ship, and how far that brings each segment."""

    records: list[RequestRecord] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    # Directories of which everything is in this batch or came before it.
    drained: set[Path] = field(default_factory=set)


class SpoolReader:
    """The one reader of a spool directory: read, ship, release.

    What was read and not released is read again by the next reader.
    """

    def __init__(self, spool_dir: Path, *, piece_bytes: int = PIECE_BYTES) -> None:
        self.spool_dir = spool_dir
        self.piece_bytes = piece_bytes
        self.corrupt_pieces = 0  # set aside since this reader was made
        self._read_to: dict[Path, int] = {}
        self._turn = 0

    def read(self, limit: int = 5000) -> SpoolBatch:
        """Return the next records, about `limit` at most; none where there is nothing new."""
        batch = SpoolBatch()
        directories = worker_directories(self.spool_dir)
        # Another one first each time: a busy worker must not keep the others waiting.
        self._turn = (self._turn + 1) % max(1, len(directories))
        for directory in directories[self._turn :] + directories[: self._turn]:
            if len(batch.records) >= limit:
                break
            self._read_worker(directory, batch, limit)
        return batch

    def release(self, batch: SpoolBatch) -> None:
        """Note that the batch is safe; segments with nothing left are removed."""
        for mark in batch.marks:
            shipped = mark.segment.with_suffix(SHIPPED_SUFFIX)
            if mark.finished:
                mark.segment.unlink(missing_ok=True)
                shipped.unlink(missing_ok=True)
                self._read_to.pop(mark.segment, None)
            else:
                _note(shipped, mark.end)

    def reject(self, record: RequestRecord, reason: str) -> None:
        """Set aside a whole record that its destination will never take."""
        self._keep_aside(f"{record.id.hex()}.bin", msgspec.msgpack.encode(record))
        logger.error("Record %s is set aside: %s", record.request_id, reason)

    def _read_worker(self, directory: Path, batch: SpoolBatch, limit: int) -> None:
        # Asked before reading: what is true of a segment now cannot be undone while it is read.
        alive = is_locked(directory / WRITER_LOCK)
        waiting = segments(directory)
        for segment in waiting:
            final = not alive or segment != waiting[-1]
            if len(batch.records) >= limit:
                return
            if not self._read_segment(segment, final, batch, limit):
                # Order within a worker: nothing of a later segment before this one is through.
                if final or not self._at_end(segment):
                    return
                break
        batch.drained.add(directory)

    def _at_end(self, segment: Path) -> bool:
        """Return whether a living writer's segment was read as far as it goes."""
        try:
            return self._read_to.get(segment, 0) >= segment.stat().st_size
        except FileNotFoundError:
            return False

    def _read_segment(self, segment: Path, final: bool, batch: SpoolBatch, limit: int) -> bool:
        """Add what is new in `segment`; returns whether it is read to its end."""
        start = self._read_to.get(segment)
        if start is None:
            start = read_shipped(segment)
        with segment.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            at, piece_bytes = start, self.piece_bytes
            while at < size and len(batch.records) < limit:
                piece = os.pread(file.fileno(), piece_bytes, at)
                whole = at + len(piece) >= size
                end = self._take(segment, at, piece, batch, complete=final and whole)
                if end == 0 and whole:
                    break
                if end == 0:
                    # A frame longer than a piece: look at more at once.
                    piece_bytes *= 2
                at += end
        self._read_to[segment] = at
        finished = final and at >= size
        if at > start or finished:
            batch.marks.append(Mark(segment, at, finished))
        return finished

    def _take(
        self, segment: Path, at: int, piece: bytes, batch: SpoolBatch, *, complete: bool
    ) -> int:
        """Decode one piece that starts at `at`; returns how much of it is dealt with."""
        parsed = parse(piece, complete=complete)
        for damage in parsed.damages:
            self._set_aside(segment, at, piece, damage)
        for payload, end in zip(parsed.payloads, parsed.ends, strict=True):
            try:
                batch.records.append(decode_record(payload))
            except msgspec.DecodeError as exc:
                start = end - len(payload)
                self._set_aside(segment, at, piece, Damage(start, end, f"not a record: {exc}"))
        return parsed.end

    def _set_aside(self, segment: Path, at: int, piece: bytes, damage: Damage) -> None:
        """Keep damaged bytes for a human; the name makes doing it twice harmless."""
        start = at + damage.start
        name = f"{segment.parent.name}-{segment.stem}-{start}.bin"
        self._keep_aside(name, piece[damage.start : damage.end])
        logger.error(
            "Spool segment %s is damaged at byte %d (%s); %d bytes are set aside as %s/%s.",
            segment, start, damage.reason, damage.end - damage.start, CORRUPT_DIR, name,
        )  # fmt: skip

    def _keep_aside(self, name: str, content: bytes) -> None:
        self.corrupt_pieces += 1
        directory = self.spool_dir / CORRUPT_DIR
        try:
            directory.mkdir(exist_ok=True)
            (directory / name).write_bytes(content)
        except OSError as exc:
            logger.error("Could not write %s/%s: %s", directory, name, exc.strerror)


def _note(shipped: Path, end: int) -> None:
    """Write down how far a segment is shipped; without it the segment is shipped again."""
    # Replaced whole: half a number would skip records.
    fresh = shipped.with_suffix(".new")
    try:
        fresh.write_text(str(end))
        fresh.replace(shipped)
    except OSError as exc:
        logger.warning("Could not write %s: %s", shipped, exc.strerror)

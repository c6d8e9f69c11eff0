"""The one process that appends to a worker's segments."""

import logging
import os
import shutil
import time
from pathlib import Path

from telemetry.spool.errors import SpoolFull, SpoolUnavailable
from telemetry.spool.frame import frame
from telemetry.spool.layout import SEGMENT_SUFFIX, WRITER_LOCK, segments, spool_use, take_lock

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 2 << 30  # some eight million records
DEFAULT_SEGMENT_BYTES = 8 << 20
DEFAULT_SEGMENT_AGE_S = 300.0
# Requests under way when the limit is reached still have to be recorded.
RESERVE_BYTES = 64 << 20
LOOK_EVERY_S = 1.0
CLAIM_ATTEMPTS = 10
CLAIM_PAUSE_S = 0.02


class SpoolWriter:
    """Appends payloads to `spool_dir/<worker>/`; one living writer per worker name.

    There is no fsync: what `os.write` has taken survives the death of the process, and a machine
    that loses power loses its in-flight requests anyway. One fsync costs as much as a thousand
    appends.
    Raises SpoolUnavailable where the directory cannot be used or has a writer already.
    """

    def __init__(
        self,
        spool_dir: Path,
        worker: str,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        segment_age_s: float = DEFAULT_SEGMENT_AGE_S,
    ) -> None:
        self.spool_dir = spool_dir
        self.directory = spool_dir / worker
        self.max_bytes = max_bytes
        self.segment_bytes = segment_bytes
        self.segment_age_s = segment_age_s
        self._segment = -1
        self._size = 0  # bytes of the open segment
        self._room = 0  # where it has to be left for another one
        self._rotate_at = 0.0
        self._in_others = 0  # bytes of every other segment in the spool, when last looked
        self._disk_free = True
        self._look_at = 0.0
        self._lock = self._claim()
        self._look()
        self._rotate()

    def append(self, payload: bytes) -> None:
        """Write one frame; when this returns, killing the process does not lose it.

        `payload` has at most `MAX_PAYLOAD_BYTES`. Raises SpoolFull or SpoolUnavailable; then
        nothing was written.
        """
        data = frame(payload)
        size = self._size + len(data)
        if size > self._room or time.monotonic() > self._rotate_at:
            self._make_room(len(data))
            size = self._size + len(data)
        try:
            written = os.write(self._segment, data)
        except OSError as exc:
            self._disk_free = False
            raise SpoolUnavailable(
                f"Cannot write to {self.directory}: {exc.strerror}; free space or repair the disk."
            ) from exc
        if written != len(data):
            self._take_back()
            self._disk_free = False
            raise SpoolUnavailable(f"The disk of {self.directory} is full; free some space.")
        self._size = size

    def admits(self) -> bool:
        """Return whether new work may start: the spool is below its limit and the disk has room.

        A comparison; once a second a look at the directory. A record that the disk refused is an
        answer until then: whatever starts now would be done, and paid for, in vain.
        """
        if time.monotonic() >= self._look_at:
            self._look()
        return self._in_others + self._size < self.max_bytes and self._disk_free

    def close(self) -> None:
        """Give up the segment and the name; another writer may take them."""
        if self._segment >= 0:
            os.close(self._segment)
            self._segment, self._room = -1, 0
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _claim(self) -> int:
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Again for a moment: the reader holds the lock too while it looks whether anybody does.
            for _ in range(CLAIM_ATTEMPTS):
                lock = take_lock(self.directory / WRITER_LOCK)
                if lock is not None:
                    return lock
                time.sleep(CLAIM_PAUSE_S)
        except OSError as exc:
            raise SpoolUnavailable(f"Cannot use {self.directory}: {exc.strerror}.") from exc
        raise SpoolUnavailable(
            f"Another process writes to {self.directory}; give each worker a name of its own."
        )

    def _make_room(self, size: int) -> None:
        if self._in_others + self._size + size > self.max_bytes + RESERVE_BYTES:
            self._look()
        if (held := self._in_others + self._size) + size > self.max_bytes + RESERVE_BYTES:
            raise SpoolFull(
                f"The spool {self.spool_dir} holds {held >> 20} MiB, past its limit of "
                f"{self.max_bytes >> 20} MiB; is the conductor running and PostgreSQL reachable?"
            )
        if self._size == 0 and self._segment >= 0:
            # Too old but empty: another empty file would be no younger in any way that counts.
            self._rotate_at = time.monotonic() + self.segment_age_s
            return
        self._in_others += self._size
        self._rotate()

    def _rotate(self) -> None:
        if self._lock < 0:
            raise SpoolUnavailable(f"The spool {self.directory} was closed.")
        newest = segments(self.directory)[-1:]
        last = int(newest[0].stem) if newest else 0
        # The clock keeps numbers unique after all older segments were shipped and removed.
        path = self.directory / f"{max(last + 1, time.time_ns()):020d}{SEGMENT_SUFFIX}"
        try:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except OSError as exc:
            self._disk_free = False
            raise SpoolUnavailable(f"Cannot create {path}: {exc.strerror}.") from exc
        if self._segment >= 0:
            os.close(self._segment)
        self._segment, self._size = opened, 0
        self._rotate_at = time.monotonic() + self.segment_age_s
        self._room = min(self.segment_bytes, self.max_bytes + RESERVE_BYTES - self._in_others)

    def _take_back(self) -> None:
        """Remove half a frame; where even that fails, leave the segment to the reader."""
        try:
            os.ftruncate(self._segment, self._size)
        except OSError:
            logger.warning("A torn frame stays at the end of a segment in %s.", self.directory)
            os.close(self._segment)
            self._segment, self._room = -1, 0

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            self._in_others = spool_use(self.spool_dir).total_bytes - self._size
            self._disk_free = shutil.disk_usage(self.directory).free > RESERVE_BYTES
        except OSError as exc:
            logger.warning("Cannot look into %s: %s.", self.spool_dir, exc.strerror)
            self._disk_free = False

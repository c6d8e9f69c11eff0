"""Where the spool keeps what.

SPOOL_DIR/<worker>/<sequence>.spool    segments, 20 digits, growing
SPOOL_DIR/<worker>/<sequence>.shipped  how many bytes of that segment are in PostgreSQL
SPOOL_DIR/<worker>/writer.lock         held (flock) by the one living writer
SPOOL_DIR/corrupt/                     damaged pieces, kept for a human
SPOOL_DIR/<worker>/<holder>.inflight   what calls under way may cost (`telemetry.spool.inflight`)
SPOOL_DIR/spool.id                     who this spool is, wherever it is mounted
SPOOL_DIR/shipper.lock                 held by the one living shipper
"""

import fcntl
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

SEGMENT_SUFFIX = ".spool"
SHIPPED_SUFFIX = ".shipped"
WRITER_LOCK = "writer.lock"
SHIPPER_LOCK = "shipper.lock"
CORRUPT_DIR = "corrupt"
IDENTITY = "spool.id"


@dataclass(frozen=True, slots=True)
class SpoolUse:
    """What lies in the spool: `backlog_bytes` are not yet shipped, `corrupt` pieces set aside."""

    total_bytes: int
    backlog_bytes: int
    corrupt: int


def segments(directory: Path) -> list[Path]:
    """Return a worker's segments, oldest first; none if the directory is gone."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [directory / name for name in sorted(names) if name.endswith(SEGMENT_SUFFIX)]


def worker_directories(spool_dir: Path) -> list[Path]:
    """Return every worker's directory, by name."""
    try:
        entries = sorted(os.scandir(spool_dir), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    return [Path(e.path) for e in entries if e.is_dir() and e.name != CORRUPT_DIR]


def read_shipped(segment: Path) -> int:
    """Return how many bytes of `segment` are known to be in PostgreSQL."""
    try:
        return int(segment.with_suffix(SHIPPED_SUFFIX).read_text())
    except (FileNotFoundError, ValueError):
        # Shipping from the start again is harmless: PostgreSQL knows what it has.
        return 0


def identity(spool_dir: Path) -> str:
    """Return the name that this spool keeps for good; the first to ask makes it."""
    path = spool_dir / IDENTITY
    if not path.exists():
        spool_dir.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{uuid.uuid4().hex}")
        fresh.write_text(uuid.uuid4().hex)
        try:
            # A link fails where somebody was faster, and is never half written.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text()


def take_lock(path: Path) -> int | None:
    """Return a descriptor holding the exclusive lock at `path`; None while somebody else has it.

    The kernel drops the lock when the process ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_locked(path: Path) -> bool:
    """Return whether a living process holds the lock at `path`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who only look never take each other for a writer.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def spool_use(spool_dir: Path) -> SpoolUse:
    """Measure the spool; cheap enough for once a second (about 20 µs a file)."""
    total = backlog = 0
    for directory in worker_directories(spool_dir):
        for segment in segments(directory):
            try:
                size = segment.stat().st_size
            except FileNotFoundError:
                continue
            total += size
            backlog += max(0, size - read_shipped(segment))
    try:
        corrupt = len(os.listdir(spool_dir / CORRUPT_DIR))
    except FileNotFoundError:
        corrupt = 0
    return SpoolUse(total, backlog, corrupt)

"""Bounds the log files that the children write to."""

import contextlib
import shutil
from pathlib import Path

LARGEST_BYTES = 8 * 2**20


def trim(logs: Path, largest_bytes: int = LARGEST_BYTES) -> None:
    """Move what a log holds to `NAME.log.1` once it is too large.

    Copied and emptied rather than renamed: the children hold the files open, and append.
    """
    for log in logs.glob("*.log"):
        # A full disk must not end the supervisor; the next round tries again.
        with contextlib.suppress(OSError):
            if log.stat().st_size > largest_bytes:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                with log.open("r+b") as file:
                    file.truncate(0)

"""A small disk of its own for a directory, and a ballast that fills it. Needs root."""

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SLACK_BYTES = 256 << 10  # left to those who write at the same time
MARK = "ORCHESTRA_OWN_MOUNTS"


def enter_own_mounts(module: str, arguments: list[str]) -> None:
    """Go on as the same program with mounts that nobody else sees and that end with it."""
    if os.geteuid() == 0 and MARK not in os.environ:
        argv = ["unshare", "--mount", sys.executable, "-m", module, *arguments]
        with contextlib.suppress(OSError):
            os.execvpe("unshare", argv, os.environ | {MARK: "1"})  # noqa: S606


def available() -> bool:
    """Return whether disks can be made here."""
    return os.geteuid() == 0 and MARK in os.environ


class Disk:
    """A mounted disk; the ballast takes what shall not be free."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def leave(self, size: int) -> None:
        """Leave about so many bytes free; with 0, not one."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while (taken := self.free_bytes - size - SLACK_BYTES) > 0:
                with contextlib.suppress(OSError):  # others took some of it meanwhile
                    os.posix_fallocate(file, os.fstat(file).st_size, taken)
            while size == 0:
                os.write(file, bytes(4096))
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
        finally:
            os.close(file)

    def clear(self) -> None:
        """Make room again."""
        self._ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Disk]:
    """Mount a disk of so many bytes in memory at the directory, until the block ends."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", directory],
                   check=True)  # fmt: skip
    try:
        yield Disk(directory)
    finally:
        subprocess.run(["umount", "-l", directory], check=True)

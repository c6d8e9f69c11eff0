"""The memory limit that this process's cgroup sets, if it sets one; versions 1 and 2."""

import os
from dataclasses import dataclass
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")
# Version 1 writes "no limit" as a huge number of pages, version 2 as `max`.
NO_LIMIT_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """Where one cgroup says what it may use and what it does use."""

    limit: Path
    usage: Path
    stat: Path
    reclaimable: bytes  # the field of `stat` that the kernel can take back at once
    swap_limit: Path
    swap_usage: Path
    swap_with_memory: bool  # version 1 counts memory and swap together
    stalls: Path | None = None  # version 2's PSI


@dataclass(frozen=True, slots=True)
class CgroupMemory:
    """In bytes; `used` is without the page cache that can be dropped at once."""

    limit: int
    used: int
    charged: int  # with that cache


def limited(root: Path = CGROUP_ROOT, own: Path = SELF) -> list[MemoryFiles]:
    """Return the files of those among this process's cgroup and its parents that have a limit.

    The tightest comes first. Inside a container the paths of `own` may be the host's; then the
    root, which is the container's own cgroup there, is what counts.
    """
    candidates = [
        (limit, files)
        for files in _files(root, own)
        if (limit := _number(files.limit)) is not None and limit < NO_LIMIT_BYTES
    ]
    return [files for _, files in sorted(candidates, key=lambda found: found[0])]


def read(files: MemoryFiles) -> CgroupMemory | None:
    """Read one cgroup's memory; None where its files are gone or unlimited by now."""
    limit, charged = _number(files.limit), _number(files.usage)
    if limit is None or charged is None or limit >= NO_LIMIT_BYTES:
        return None
    cache = _field(files.stat, files.reclaimable)
    return CgroupMemory(limit, max(0, charged - cache), charged)


def swap_percent(files: MemoryFiles) -> float | None:
    """Return how much of the cgroup's own swap limit is used; None without one."""
    limit, used = _number(files.swap_limit), _number(files.swap_usage)
    if limit is None or used is None or limit >= NO_LIMIT_BYTES:
        return None
    if files.swap_with_memory:
        limit -= _number(files.limit) or 0
        used -= _number(files.usage) or 0
    return min(100.0, max(0.0, 100 * used / limit)) if limit > 0 else 0.0


def stalls(files: MemoryFiles) -> bytes:
    """Return the cgroup's PSI file; empty where it has none."""
    return _content(files.stalls) if files.stalls is not None else b""


def _files(root: Path, own: Path) -> list[MemoryFiles]:
    try:
        entries = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, path in entries:
        if controllers == "":
            found += [_v2(directory) for directory in _upwards(root, path)]
        elif "memory" in controllers.split(","):
            found += [_v1(directory) for directory in _upwards(root / "memory", path)]
    return found


def _upwards(root: Path, path: str) -> list[Path]:
    directory = root / path.strip("/")
    if ".." in directory.parts or not directory.is_dir():
        return [root]
    return [directory, *(p for p in directory.parents if p.is_relative_to(root))]


def _v1(directory: Path) -> MemoryFiles:
    return MemoryFiles(
        directory / "memory.limit_in_bytes",
        directory / "memory.usage_in_bytes",
        directory / "memory.stat",
        b"total_inactive_file ",
        directory / "memory.memsw.limit_in_bytes",
        directory / "memory.memsw.usage_in_bytes",
        swap_with_memory=True,
    )


def _v2(directory: Path) -> MemoryFiles:
    return MemoryFiles(
        directory / "memory.max",
        directory / "memory.current",
        directory / "memory.stat",
        b"inactive_file ",
        directory / "memory.swap.max",
        directory / "memory.swap.current",
        swap_with_memory=False,
        stalls=directory / "memory.pressure",
    )


def _content(path: Path) -> bytes:
    # Not Path.read_bytes: twenty times a second, its buffering is most of the cost.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 16384)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _number(path: Path) -> int | None:
    content = _content(path).strip()
    return int(content) if content.isdigit() else None


def _field(path: Path, name: bytes) -> int:
    _, _, rest = (b"\n" + _content(path)).partition(b"\n" + name)
    number = rest.partition(b"\n")[0]
    return int(number) if number.isdigit() else 0

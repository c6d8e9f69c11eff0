"""A limit on this process's memory: a control group if one can be made, else a resource limit.

Either counts what the process takes from now on; what it had before is not part of it.
"""

import atexit
import contextlib
import os
import resource
from pathlib import Path
from typing import Literal, Protocol

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
PREFIX = "ai-orchestra-simulator-"

Enforcer = Literal["cgroup", "rlimit"]


class CannotLimit(Exception):
    """Raised when the kernel enforces no such limit; its text is one sentence for the operator."""


class Limit(Protocol):
    """What the kernel holds this process to."""

    limit_bytes: int
    enforced_by: Enforcer

    def used_bytes(self) -> int:
        """Return what counts towards the limit now."""
        ...


class ControlGroup:
    """A control group of this process alone; the kernel kills it when the limit is passed."""

    enforced_by: Enforcer = "cgroup"

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Make the group and join it; raises OSError where that is not allowed."""
        self.limit_bytes = limit_bytes
        self._root = root
        self._v1 = root == V1
        self.path = root / f"{PREFIX}{os.getpid()}"
        sweep(root)
        self.path.mkdir()
        try:
            self._set("memory.limit_in_bytes" if self._v1 else "memory.max", limit_bytes)
            self._keep_off_swap()
            self._set("cgroup.procs", os.getpid())
        except OSError:
            self.path.rmdir()
            raise

    def used_bytes(self) -> int:
        """Return anonymous memory: pages of files are given back before anybody is killed."""
        wanted = "rss" if self._v1 else "anon"
        for line in (self.path / "memory.stat").read_text().splitlines():
            name, amount = line.split()
            if name == wanted:
                return int(amount)
        return 0

    def leave(self) -> None:
        """Go back to where there is no such limit, and remove the group."""
        with contextlib.suppress(OSError):
            (self._root / "cgroup.procs").write_text(str(os.getpid()))
            self.path.rmdir()

    def _keep_off_swap(self) -> None:
        with contextlib.suppress(OSError):
            self._set(*(("memory.swappiness", 0) if self._v1 else ("memory.swap.max", 0)))

    def _set(self, name: str, value: int) -> None:
        (self.path / name).write_text(str(value))


class ResourceLimit:
    """RLIMIT_DATA: the kernel refuses more memory, and whoever asked for it has to die of that."""

    enforced_by: Enforcer = "rlimit"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._before = _data_bytes()
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = self._before + limit_bytes
        if most not in (resource.RLIM_INFINITY, -1) and most < wanted:
            raise CannotLimit(f"RLIMIT_DATA is {most} bytes already; a limit needs {wanted}.")
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, most))

    def used_bytes(self) -> int:
        return max(0, _data_bytes() - self._before)


def enforce(limit_bytes: int, by: Enforcer | None = None) -> Limit:
    """Limit this process; by a control group unless there is none to be had or `by` says so.

    Raises CannotLimit.
    """
    if by != "rlimit":
        for root in _roots():
            with contextlib.suppress(OSError):
                group = ControlGroup(root, limit_bytes)
                atexit.register(group.leave)
                return group
    if by == "cgroup":
        raise CannotLimit("No memory control group can be made here; use rlimit.")
    return _resource_limit(limit_bytes)


def _resource_limit(limit_bytes: int) -> ResourceLimit:
    if not Path("/proc/self/status").exists():
        raise CannotLimit("A memory limit needs Linux; leave out the limit.")
    return ResourceLimit(limit_bytes)


def _roots() -> list[Path]:
    """Return where groups with a memory limit can be made, if at all."""
    if V1.is_dir():
        return [V1]
    with contextlib.suppress(OSError):
        if "memory" in (V2 / "cgroup.subtree_control").read_text().split():
            return [V2]
    return []


def sweep(root: Path | None = None) -> None:
    """Remove groups whose process was killed."""
    for place in _roots() if root is None else [root]:
        for group in place.glob(f"{PREFIX}*"):
            # Refused while a process is in it.
            with contextlib.suppress(OSError):
                group.rmdir()


def _data_bytes() -> int:
    """Return VmData: what RLIMIT_DATA is compared with (getrlimit(2))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0

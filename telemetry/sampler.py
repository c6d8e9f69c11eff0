"""Memory and CPU of this host or container, cheap enough for twenty looks a second.

`pressure` is by the formula of telemetry/pressure.py. `total` is the tightest memory limit of this
process's cgroup and its parents (version 1 or 2), or the host's memory where there is none.
`available` is the kernel's MemAvailable, and under limits no more than the least
`limit - (charged - inactive file cache)`: what remains beside the working set, by which Kubernetes
evicts. Stalls and swap are those of the tightest cgroup where it tells them, else the host's.
"""

import contextlib
import os
import time
from pathlib import Path

import msgspec

from routing.engine.pressure import level_of, next_level
from telemetry import cgroup
from telemetry.gpu import Gpu, Gpus
from telemetry.pressure import CALM, Stall, parse, pressure_of

GIB = 1 << 30
KIB = 1 << 10
# /proc/stat is the dearest of the files, and CPU use over less than this is noise.
CPU_WINDOW_S = 0.5
# A container's limit can be changed while it runs.
LIMIT_AGE_S = 1.0


class HostSample(msgspec.Struct, frozen=True):
    """Memory and CPU at one moment; sizes in GiB."""

    available_gb: float
    free_gb: float
    total_gb: float
    pressure: float  # 0..1, by the formula of telemetry/pressure.py
    cpu_percent: float  # of all cores, 0..100
    swap_percent: float  # 0..100; 0 without swap
    at: float  # seconds since the epoch
    stall: Stall = CALM
    gpus: tuple[Gpu, ...] = ()
    held: str = ""  # level with what was before taken into account

    @property
    def level(self) -> str:
        """Return the level: with hysteresis, where the sampler knows what was before."""
        return self.held or level_of(self.pressure)


class Sampler:
    """Reads one host; the arguments are for tests. Not for several threads at once."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroup_root: Path = cgroup.CGROUP_ROOT,
        own_cgroup: Path = cgroup.SELF,
        gpus: Gpus | None = None,
    ) -> None:
        """Raises OSError where there is no /proc/meminfo."""
        self._cgroup_root = cgroup_root
        self._own_cgroup = own_cgroup
        self._meminfo = os.open(proc / "meminfo", os.O_RDONLY | os.O_CLOEXEC)
        self._stat = os.open(proc / "stat", os.O_RDONLY | os.O_CLOEXEC)
        self._stalls = _open_if_there(proc / "pressure" / "memory")
        self._gpus = gpus or Gpus()
        self._limits: list[cgroup.MemoryFiles] = []
        self._look_at = 0.0
        self._group_swap: float | None = None
        self._level = "normal"
        self._cpu_at = time.monotonic()
        self._cpu_percent = 0.0
        self._cpu_times = self._read_cpu()

    def close(self) -> None:
        """Close the files; the sampler is of no use afterwards."""
        os.close(self._meminfo)
        os.close(self._stat)
        if self._stalls is not None:
            os.close(self._stalls)

    def sample(self) -> HostSample:
        """Measure now."""
        now = time.monotonic()
        total, free, available, swap_percent = self._memory()
        for limit in self._limited(now):
            total = min(total, limit.limit)
            available = min(available, max(0, limit.limit - limit.used))
            free = min(free, max(0, limit.limit - limit.charged))
        swap_percent = swap_percent if self._group_swap is None else self._group_swap
        stall, used = self._stall(), 1 - available / total if total else 0.0
        tight = pressure_of(used, stall, swap_percent)
        self._level = next_level(self._level, tight)
        return HostSample(
            available_gb=available / GIB,
            free_gb=free / GIB,
            total_gb=total / GIB,
            pressure=tight,
            cpu_percent=self._cpu(now),
            swap_percent=swap_percent,
            at=time.time(),
            stall=stall,
            gpus=self._gpus.read(),
            held=self._level,
        )

    def _memory(self) -> tuple[int, int, int, float]:
        """Return the host's total, free and available bytes, and swap use in percent."""
        # Name, number and unit in turn; what is wanted stands in the first twenty lines.
        words = os.pread(self._meminfo, 1024, 0).split()
        kib = dict(zip(words[::3], words[1::3], strict=False))
        total, free = int(kib[b"MemTotal:"]), int(kib[b"MemFree:"])
        available = int(kib[b"MemAvailable:"])
        swap_total, swap_free = int(kib[b"SwapTotal:"]), int(kib[b"SwapFree:"])
        swap_percent = 100 * (1 - swap_free / swap_total) if swap_total else 0.0
        return total * KIB, free * KIB, available * KIB, swap_percent

    def _limited(self, now: float) -> list[cgroup.CgroupMemory]:
        if now >= self._look_at:
            self._limits = cgroup.limited(self._cgroup_root, self._own_cgroup)
            self._look_at = now + LIMIT_AGE_S
            self._group_swap = cgroup.swap_percent(self._limits[0]) if self._limits else None
        return [found for files in self._limits if (found := cgroup.read(files)) is not None]

    def _stall(self) -> Stall:
        content = cgroup.stalls(self._limits[0]) if self._limits else b""
        if not content and self._stalls is not None:
            # Kernels that have PSI compiled in and switched off refuse the reading.
            with contextlib.suppress(OSError):
                content = os.pread(self._stalls, 256, 0)
        return parse(content) if content else CALM

    def _cpu(self, now: float) -> float:
        if now - self._cpu_at >= CPU_WINDOW_S:
            busy, total = self._read_cpu()
            if total > self._cpu_times[1]:
                share = (busy - self._cpu_times[0]) / (total - self._cpu_times[1])
                self._cpu_percent = min(100.0, max(0.0, 100 * share))
            self._cpu_times, self._cpu_at = (busy, total), now
        return self._cpu_percent

    def _read_cpu(self) -> tuple[int, int]:
        """Return busy and total ticks since boot, of all cores."""
        # cpu user nice system idle iowait irq softirq steal
        ticks = [int(word) for word in os.pread(self._stat, 256, 0).split(b"\n")[0].split()[1:9]]
        return sum(ticks) - sum(ticks[3:5]), sum(ticks)


def _open_if_there(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


_sampler: Sampler | None = None


def sample() -> HostSample:
    """Measure this host now, with one sampler for the whole process."""
    global _sampler
    if _sampler is None:
        _sampler = Sampler()
    return _sampler.sample()

"""Memory and CPU of this host or container, cheap enough for twenty looks a second.

    pressure = 1 - available / total, between 0 and 1

`total` is the tightest memory limit of this process's cgroup and its parents (version 1 or 2), or
the host's memory where there is none. `available` is the kernel's MemAvailable, under a limit no
more than `limit - (charged - inactive file cache)`: what remains of it beside the working set, by
which Kubernetes evicts. Kernel stall figures (PSI) and swap are not part of it.
"""

import os
import time
from pathlib import Path

import msgspec

from telemetry import cgroup

GIB = 1 << 30
KIB = 1 << 10
# /proc/stat is the dearest of the files, and CPU use over less than this is noise.
CPU_WINDOW_S = 0.5
# A container's limit can be changed while it runs.
LIMIT_AGE_S = 10.0

ELEVATED, HIGH, CRITICAL = 0.70, 0.80, 0.90


class HostSample(msgspec.Struct, frozen=True):
    """Memory and CPU at one moment; sizes in GiB."""

    available_gb: float
    free_gb: float
    total_gb: float
    pressure: float  # 0..1, by the formula of this module
    cpu_percent: float  # of all cores, 0..100
    swap_percent: float  # 0..100; 0 without swap
    at: float  # seconds since the epoch


def level(pressure: float) -> str:
    """Return the name of a pressure: normal, elevated, high or critical."""
    if pressure >= CRITICAL:
        return "critical"
    if pressure >= HIGH:
        return "high"
    return "elevated" if pressure >= ELEVATED else "normal"


class Sampler:
    """Reads one host; the arguments are for tests. Not for several threads at once."""

    def __init__(
        self,
        proc: Path = Path("/proc"),
        cgroup_root: Path = cgroup.CGROUP_ROOT,
        own_cgroup: Path = cgroup.SELF,
    ) -> None:
        """Raises OSError where there is no /proc/meminfo."""
        self._cgroup_root = cgroup_root
        self._own_cgroup = own_cgroup
        self._meminfo = os.open(proc / "meminfo", os.O_RDONLY | os.O_CLOEXEC)
        self._stat = os.open(proc / "stat", os.O_RDONLY | os.O_CLOEXEC)
        self._limit_files: cgroup.MemoryFiles | None = None
        self._look_at = 0.0
        self._cpu_at = time.monotonic()
        self._cpu_percent = 0.0
        self._cpu_times = self._read_cpu()

    def close(self) -> None:
        """Close the files; the sampler is of no use afterwards."""
        os.close(self._meminfo)
        os.close(self._stat)

    def sample(self) -> HostSample:
        """Measure now."""
        now = time.monotonic()
        total, free, available, swap_percent = self._memory()
        limited = self._limited(now)
        if limited is not None and limited.limit < total:
            total = limited.limit
            available = min(available, max(0, total - limited.used))
            free = min(free, max(0, total - limited.charged))
        return HostSample(
            available_gb=available / GIB,
            free_gb=free / GIB,
            total_gb=total / GIB,
            pressure=min(1.0, max(0.0, 1 - available / total)) if total else 0.0,
            cpu_percent=self._cpu(now),
            swap_percent=swap_percent,
            at=time.time(),
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

    def _limited(self, now: float) -> cgroup.CgroupMemory | None:
        if now >= self._look_at:
            self._limit_files = cgroup.tightest(self._cgroup_root, self._own_cgroup)
            self._look_at = now + LIMIT_AGE_S
        return cgroup.read(self._limit_files) if self._limit_files is not None else None

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


_sampler: Sampler | None = None


def sample() -> HostSample:
    """Measure this host now, with one sampler for the whole process."""
    global _sampler
    if _sampler is None:
        _sampler = Sampler()
    return _sampler.sample()

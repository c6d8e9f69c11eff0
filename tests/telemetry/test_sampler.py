"""Memory and CPU: of this host, and under the limits that containers set."""

import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from telemetry.crossing import PressureWatch
from telemetry.sampler import GIB, HostSample, Sampler, sample
from telemetry.sampling import Sampling

MEMINFO = """MemTotal:       16777216 kB
MemFree:         2097152 kB
MemAvailable:    8388608 kB
Buffers:               0 kB
Cached:          4194304 kB
SwapCached:            0 kB
SwapTotal:       4194304 kB
SwapFree:        1048576 kB
HugePages_Total:       0
"""
STAT = "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n"


class Machine:
    """A /proc and a /sys/fs/cgroup of our own."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroup, self.own = root / "proc", root / "cgroup", root / "own"
        self.proc.mkdir()
        self.cgroup.mkdir()
        (self.proc / "meminfo").write_text(MEMINFO)
        (self.proc / "stat").write_text(STAT)
        self.own.write_text("0::/\n")

    def group(self, path: str, version: int, limit: str, used_gb: float, cache_gb: float) -> None:
        directory = self.cgroup / ("memory" if version == 1 else ".") / path
        directory.mkdir(parents=True, exist_ok=True)
        names = {
            1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            2: ("memory.max", "memory.current", "inactive_file"),
        }[version]
        (directory / names[0]).write_text(f"{limit}\n")
        (directory / names[1]).write_text(f"{int(used_gb * GIB)}\n")
        stat = f"anon 5\nactive_file 7\n{names[2]} {int(cache_gb * GIB)}\nunevictable 0\n"
        (directory / "memory.stat").write_text(stat)

    def sampler(self) -> Sampler:
        return Sampler(self.proc, self.cgroup, self.own)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    yield Machine(tmp_path)
    shutil.rmtree(tmp_path)


def test_a_host_without_limits(machine: Machine) -> None:
    found = machine.sampler().sample()
    assert (found.total_gb, found.available_gb, found.free_gb) == (16.0, 8.0, 2.0)
    assert found.pressure == 0.5
    assert found.swap_percent == 75.0


@pytest.mark.parametrize("version", [1, 2])
def test_the_cgroups_limit_counts_where_there_is_one(machine: Machine, version: int) -> None:
    machine.own.write_text("4:cpu,memory:/box\n" if version == 1 else "0::/box\n")
    machine.group("box", version, str(8 * GIB), used_gb=6, cache_gb=2)
    found = machine.sampler().sample()
    assert (found.total_gb, found.available_gb, found.free_gb) == (8.0, 4.0, 2.0)
    assert found.pressure == 0.5


def test_the_tightest_of_the_parents_limits_counts(machine: Machine) -> None:
    machine.own.write_text("0::/slice/box\n")
    machine.group("slice/box", 2, "max", used_gb=1, cache_gb=0)
    machine.group("slice", 2, str(4 * GIB), used_gb=3, cache_gb=0)
    found = machine.sampler().sample()
    assert (found.total_gb, found.available_gb, found.pressure) == (4.0, 1.0, 0.75)


def test_in_a_container_the_root_group_is_its_own(machine: Machine) -> None:
    machine.own.write_text("4:memory:/docker/0123\n")
    machine.group("", 1, str(2 * GIB), used_gb=2, cache_gb=0.5)
    found = machine.sampler().sample()
    assert (found.total_gb, found.available_gb) == (2.0, 0.5)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", str(64 * GIB)])
def test_no_limit_or_one_above_the_host_changes_nothing(machine: Machine, limit: str) -> None:
    machine.group("", 2, limit, used_gb=15, cache_gb=0)
    assert machine.sampler().sample().available_gb == 8.0


def test_the_hosts_own_shortage_counts_under_a_limit(machine: Machine) -> None:
    machine.group("", 2, str(12 * GIB), used_gb=1, cache_gb=0)
    found = machine.sampler().sample()
    assert (found.total_gb, found.available_gb) == (12.0, 8.0)


def test_a_limit_that_goes_away_is_no_fault(machine: Machine) -> None:
    machine.group("", 2, str(4 * GIB), used_gb=1, cache_gb=0)
    sampler = machine.sampler()
    assert sampler.sample().total_gb == 4.0
    (machine.cgroup / "memory.max").unlink()
    assert sampler.sample().total_gb == 16.0


def test_cpu_is_the_busy_share_since_the_last_look(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = machine.sampler()
    assert sampler.sample().cpu_percent == 0.0
    (machine.proc / "stat").write_text("cpu  130 0 130 720 120 0 0 0 0 0\n")
    monkeypatch.setattr("telemetry.sampler.CPU_WINDOW_S", 0.0)
    assert sampler.sample().cpu_percent == 60.0


def test_this_machine_agrees_with_psutil() -> None:
    found, other = sample(), psutil.virtual_memory()
    assert found.total_gb <= other.total / GIB + 0.01
    assert found.available_gb <= other.available / GIB + 1
    assert 0 <= found.pressure <= 1


@pytest.mark.parametrize(
    ("pressure", "name"),
    [(0, "normal"), (0.69, "normal"), (0.7, "elevated"), (0.8, "high"), (0.9, "critical")],
)
def test_levels(pressure: float, name: str) -> None:
    assert under(pressure).level == name


def under(pressure: float) -> HostSample:
    return HostSample(4 - 4 * pressure, 0, 4, pressure, 0, 0, 1_000_000_000.0)


def test_a_crossing_is_told_once_until_it_was_calm_again() -> None:
    watch = PressureWatch()
    course = [0.5, 0.79, 0.8, 0.95, 0.78, 0.81, 0.74, 0.79, 0.85]
    told = [p for p in course if watch.crossed(under(p))]
    assert told == [0.8, 0.85]


def test_the_event_says_when_and_how_much() -> None:
    event = PressureWatch().crossed(under(0.875))
    assert event is not None
    assert (event.memory_pressure, event.available_memory_gb) == (0.875, 0.5)
    assert event.timestamp == dt.datetime(2001, 9, 9, 1, 46, 40, tzinfo=dt.UTC)


def test_sampling_has_a_sample_from_the_start() -> None:
    assert Sampling(lambda event: None, look=lambda: under(0.25)).latest.pressure == 0.25

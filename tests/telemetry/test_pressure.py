"""What stalls, swap and GPUs add to a look at the host."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.gpu import GIB, LOOK_AGAIN_S, READ_EVERY_S, Gpu, Gpus
from telemetry.pressure import CALM, Stall, parse, pressure_of, stalled, swapped
from tests.telemetry.test_sampler import Machine

PSI = "some avg10={} avg60=0.00 avg300=0.00 total=1\nfull avg10={} avg60=0.00 avg300=0.00 total=1\n"
percents = st.floats(0, 100)


@given(percents, percents)
def test_more_stalls_and_more_swap_are_never_less_pressure(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= stalled(Stall(full=low)) <= stalled(Stall(full=high)) <= 1
    assert 0 <= stalled(Stall(some=low)) <= stalled(Stall(some=high)) <= 1
    assert 0 <= swapped(low) <= swapped(high) <= 0.75


@pytest.mark.parametrize(("full", "pressure"), [(0, 0), (5, 0.7), (10, 0.8), (20, 0.9), (40, 1)])
def test_stalls_map_to_levels(full: float, pressure: float) -> None:
    assert stalled(Stall(full=full)) == pytest.approx(pressure)
    assert stalled(Stall(some=2 * full)) == pytest.approx(pressure)


def test_the_worst_of_the_three_counts() -> None:
    assert pressure_of(0.5, CALM, 50) == 0.5
    assert pressure_of(0.5, Stall(full=10), 100) == pytest.approx(0.8)
    assert pressure_of(0.5, CALM, 100) == 0.75
    assert pressure_of(1.5) == 1.0


@pytest.mark.parametrize("content", [b"", b"some", b"some avg10=x y\nfull avg10=\n", b"\xff\n"])
def test_an_unreadable_psi_file_is_calm(content: bytes) -> None:
    assert parse(content) == CALM


def test_the_hosts_stalls_raise_its_pressure(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.proc / "pressure").mkdir()
    stalls = machine.proc / "pressure" / "memory"
    stalls.write_text(PSI.format("30.00", "20.00"))
    found = machine.sampler().sample()
    assert found.stall == Stall(30, 20)
    assert found.pressure == pytest.approx(0.9)
    assert found.level == "critical"


def test_under_a_limit_the_cgroups_own_stalls_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.proc / "pressure").mkdir()
    (machine.proc / "pressure" / "memory").write_text(PSI.format("90.00", "90.00"))
    machine.group("", 2, str(8 * GIB), used_gb=1, cache_gb=0)
    (machine.cgroup / "memory.pressure").write_text(PSI.format("2.00", "1.00"))
    assert machine.sampler().sample().stall == Stall(2, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_swap_of_a_limited_cgroup_is_its_own(tmp_path: Path, version: int) -> None:
    machine = Machine(tmp_path)
    machine.own.write_text("4:memory:/box\n" if version == 1 else "0::/box\n")
    machine.group("box", version, str(4 * GIB), used_gb=2, cache_gb=0)
    directory = machine.cgroup / ("memory/box" if version == 1 else "box")
    names = {
        1: {"memory.memsw.limit_in_bytes": 6, "memory.memsw.usage_in_bytes": 2.5},
        2: {"memory.swap.max": 2, "memory.swap.current": 0.5},
    }[version]
    for name, size_gb in names.items():
        (directory / name).write_text(f"{int(size_gb * GIB)}\n")
    assert machine.sampler().sample().swap_percent == 25.0


def test_a_parents_wider_limit_counts_where_less_room_is_left_in_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.own.write_text("0::/slice/box\n")
    machine.group("slice/box", 2, str(4 * GIB), used_gb=1, cache_gb=0)
    machine.group("slice", 2, str(6 * GIB), used_gb=5.5, cache_gb=0)
    found = machine.sampler().sample()
    assert (found.total_gb, found.available_gb) == (4.0, 0.5)


def test_a_limit_set_while_running_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    machine.group("", 2, "max", used_gb=1, cache_gb=0)
    sampler = machine.sampler()
    assert sampler.sample().total_gb == 16.0
    monkeypatch.setattr("telemetry.sampler.LIMIT_AGE_S", 0.0)
    sampler._look_at = 0.0
    (machine.cgroup / "memory.max").write_text(f"{4 * GIB}\n")
    assert sampler.sample().total_gb == 4.0


class Library:
    """As much of pynvml as is used."""

    def __init__(self) -> None:
        self.looks = self.reads = 0
        self.broken = False

    def __call__(self) -> "Library":
        self.looks += 1
        if self.broken:
            raise ModuleNotFoundError("pynvml")
        return self

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        self.reads += 1
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return "A" if handle == 0 else b"B"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=24 * GIB, free=(handle + 1) * GIB)


def test_each_gpu_tells_its_memory_about_once_a_second() -> None:
    library, now = Library(), [0.0]
    gpus = Gpus(library, lambda: now[0])
    assert gpus.read() == (Gpu("A", 24, 1), Gpu("B", 24, 2))
    gpus.read()
    assert library.reads == 1
    now[0] += READ_EVERY_S
    gpus.read()
    assert (library.looks, library.reads) == (1, 2)


def test_without_a_driver_it_is_looked_for_once_and_rarely_again() -> None:
    library, now = Library(), [0.0]
    library.broken = True
    gpus = Gpus(library, lambda: now[0])
    for _ in range(20):
        assert gpus.read() == ()
        now[0] += READ_EVERY_S
    assert library.looks == 1
    library.broken = False
    now[0] = LOOK_AGAIN_S
    assert len(gpus.read()) == 2

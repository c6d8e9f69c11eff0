"""Memory of the GPUs of this machine, through NVIDIA's library; none where there is none."""

import importlib
import time
from collections.abc import Callable
from typing import Any

import msgspec

GIB = 1 << 30
# A call takes up to a millisecond, so not at every look at the host.
READ_EVERY_S = 1.0
# A driver may be installed while this process runs; a look without one costs a file search.
LOOK_AGAIN_S = 600.0


class Gpu(msgspec.Struct, frozen=True):
    """One device; sizes in GiB."""

    name: str
    total_gb: float
    free_gb: float


Library = Callable[[], Any]


def _nvml() -> Any:
    return importlib.import_module("pynvml")


class Gpus:
    """Reads every GPU; `library` returns something like pynvml, or raises."""

    def __init__(
        self, library: Library = _nvml, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._library = library
        self._clock = clock
        self._nvml: Any = None
        self._next_at = float("-inf")
        self._seen: tuple[Gpu, ...] = ()

    def read(self) -> tuple[Gpu, ...]:
        """Return what each GPU has, at most `READ_EVERY_S` old; nothing without a driver."""
        now = self._clock()
        if now < self._next_at:
            return self._seen
        try:
            self._seen = self._devices()
            self._next_at = now + READ_EVERY_S
        except Exception:  # noqa: BLE001 - a library that fails in its own ways means: no GPU
            self._nvml, self._seen = None, ()
            self._next_at = now + LOOK_AGAIN_S
        return self._seen

    def _devices(self) -> tuple[Gpu, ...]:
        if self._nvml is None:
            nvml = self._library()
            nvml.nvmlInit()
            self._nvml = nvml
        count = self._nvml.nvmlDeviceGetCount()
        return tuple(self._device(index) for index in range(count))

    def _device(self, index: int) -> Gpu:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        name = self._nvml.nvmlDeviceGetName(handle)
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return Gpu(text, memory.total / GIB, memory.free / GIB)

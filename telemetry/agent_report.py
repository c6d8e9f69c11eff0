"""What an agent reports, and when."""

from telemetry.agent_ollama import OllamaWatch
from telemetry.events import GpuMemory, HeldModel, SystemResourceUpdated
from telemetry.sampler import HostSample

MOVED = 0.02  # of the machine's memory: told at once

Held = tuple[HeldModel, ...] | None


class Reporter:
    """Says when a report is due. Times are seconds, monotonic."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._told: tuple[HostSample, float, frozenset[str]] | None = None

    def due(self, sample: HostSample, now: float, held: Held = None) -> bool:
        """Return whether to report: in time, or at once as memory, level or models changed."""
        if self._told is None:
            return True
        before, at, models = self._told
        moved_gb = abs(sample.available_gb - before.available_gb)
        return (
            now - at >= self.interval_s
            or moved_gb > MOVED * sample.total_gb
            or sample.level != before.level
            or _names(held) != models
        )

    def told(self, sample: HostSample, now: float, held: Held = None) -> None:
        """Take note of a report that arrived."""
        self._told = (sample, now, _names(held))


def _names(held: Held) -> frozenset[str]:
    return frozenset(model.name for model in held or ())


def report_of(
    sample: HostSample, host: str, interval_s: float, ollama: OllamaWatch
) -> SystemResourceUpdated:
    """Return the event; it has no timestamp, as clocks of machines differ and Redis has one."""
    return SystemResourceUpdated(
        memory_available_gb=min(sample.available_gb, sample.total_gb),
        memory_total_gb=sample.total_gb,
        host=host,
        cpu_usage_percent=sample.cpu_percent,
        swap_used_percent=sample.swap_percent,
        pressure=sample.pressure,
        psi_some_percent=sample.stall.some,
        psi_full_percent=sample.stall.full,
        gpus=tuple(GpuMemory(g.name, g.total_gb, g.free_gb) for g in sample.gpus),
        interval_s=interval_s,
        ollama_port=ollama.port,
        loaded=ollama.held,
    )

"""Upward crossings of the level `high`, each told once until the host was calm again."""

import datetime as dt

from routing.engine.pressure import LEVELS, next_level
from telemetry.events import ResourcePressureHigh
from telemetry.sampler import HostSample

HIGH = LEVELS.index("high")


class PressureWatch:
    """Watches one host."""

    def __init__(self, host: str = "local") -> None:
        self._host = host
        self._level = "normal"

    @property
    def high(self) -> bool:
        """Return whether the host is at `high` or above now."""
        return LEVELS.index(self._level) >= HIGH

    def crossed(self, now: HostSample) -> ResourcePressureHigh | None:
        """Return the event to publish, if this sample is the first one above."""
        return self.see(now.pressure, now.available_gb, now.at)

    def see(self, pressure: float, available_gb: float, at: float) -> ResourcePressureHigh | None:
        """As `crossed`, from the figures alone."""
        before = self.high
        self._level = next_level(self._level, pressure)
        if before or not self.high:
            return None
        when = dt.datetime.fromtimestamp(at, dt.UTC)
        return ResourcePressureHigh(round(pressure, 4), round(available_gb, 3), when, self._host)

"""Levels of memory pressure, and what a host may still load at each. Pure."""

THRESHOLDS = ((0.90, "critical"), (0.80, "high"), (0.70, "elevated"), (0.0, "normal"))
LEVELS = ("normal", "elevated", "high", "critical")
# A level is left only this far below the threshold that it was entered at: 0.80 is calm at 0.75.
MARGIN = 0.05


def level_of(pressure: float) -> str:
    """Return the level of a pressure that nothing is known of before."""
    return next((name for threshold, name in THRESHOLDS if pressure >= threshold), "normal")


def next_level(before: str, pressure: float) -> str:
    """Return the level after `before`: up at a threshold, down only `MARGIN` below it."""
    up = level_of(pressure)
    if LEVELS.index(up) >= LEVELS.index(before):
        return up
    held = level_of(pressure + MARGIN)
    return min(before, held, key=LEVELS.index)


def may_load(level: str, priority: str) -> bool:
    """Return whether a cold model may be loaded: at `high` not for low, at `critical` for critical.

    What is loaded already answers at every level. Critical requests may use the safety buffer.
    """
    if level == "critical":
        return priority == "critical"
    return level != "high" or priority != "low"

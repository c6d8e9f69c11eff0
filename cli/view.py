"""Reads answers and words their values: a missing or odd field is a dash, never a crash."""

from collections.abc import Mapping
from datetime import UTC, datetime

from cli.output import ABSENT, Cell

_COLOUR_OF_WORD = {
    "healthy": "green",
    "ok": "green",
    "closed": "green",
    "normal": "green",
    "degraded": "yellow",
    "half-open": "yellow",
    "elevated": "yellow",
    "high": "yellow",
    "unhealthy": "red",
    "error": "red",
    "open": "red",
    "critical": "red",
    "unavailable": "red",
}


def dig(document: object, *path: str) -> object:
    """Return the value at the path, or None where any step is missing."""
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def items(document: object, *path: str) -> list[Mapping[str, object]]:
    """Return the objects of the list at the path; anything else in it is left out."""
    value = dig(document, *path)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def number(value: object) -> float | None:
    """Return a JSON number as a float, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def words(value: object) -> str:
    """Return a list as words with commas, and anything else as text."""
    if isinstance(value, list):
        return ", ".join(text(item) for item in value) or ABSENT
    return text(value)


def text(value: object) -> str:
    """Return a scalar for people."""
    if value is None or value == "" or isinstance(value, Mapping | list):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def state(value: object) -> Cell:
    """Return a status word in its colour."""
    return Cell(text(value), _COLOUR_OF_WORD.get(text(value), ""))


def figure(value: object, unit: str = "", digits: int = 1) -> Cell:
    """Return a number with its unit, aligned to the right in tables."""
    amount = number(value)
    if amount is None:
        return Cell(ABSENT, right=True)
    return Cell(f"{amount:,.{digits}f}{unit and ' ' + unit}", right=True)


def count(value: object) -> Cell:
    """Return a whole number."""
    return figure(value, digits=0)


def pressure(value: object) -> Cell:
    """Return a memory pressure, 0..1, with its level (thresholds: 0.70, 0.80, 0.90)."""
    amount = number(value)
    if amount is None:
        return Cell(ABSENT, right=True)
    levels = ((0.9, "critical"), (0.8, "high"), (0.7, "elevated"))
    level = next((name for threshold, name in levels if amount >= threshold), "normal")
    return Cell(f"{amount:.2f} {level}", _COLOUR_OF_WORD[level], right=True)


def share(part: object, whole: object) -> Cell:
    """Return part of whole as a percentage; nothing of nothing is a dash."""
    over, under = number(part), number(whole)
    if over is None or not under:
        return Cell(ABSENT, right=True)
    return Cell(f"{100 * over / under:.1f} %", right=True)


def moment(value: object) -> str:
    """Return an ISO time as `YYYY-MM-DD HH:MM:SS` in UTC; a text that is none stays as it is."""
    try:
        at = datetime.fromisoformat(text(value))
    except ValueError:
        return text(value)
    return (at.astimezone(UTC) if at.tzinfo else at).strftime("%Y-%m-%d %H:%M:%S")


def caveats(document: object) -> list[tuple[str, Cell]]:
    """Return what a reader must know of an answer that is less than it seems; usually nothing."""
    labels = (("degraded", "Degraded"), ("simulated", "Simulated"))
    return [(label, Cell("yes", "yellow")) for key, label in labels if dig(document, key) is True]

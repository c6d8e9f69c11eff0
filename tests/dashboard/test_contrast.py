"""The colours hold WCAG 2.2 AA, fresh and dimmed."""

import re
from pathlib import Path

import pytest

import dashboard

STYLES = Path(dashboard.__file__).parent / "static" / "dashboard"
TOKENS = (STYLES / "tokens.css").read_text()
TEXTS = ("text", "quiet", "accent", "good", "warn", "high", "bad", "sim", "p50", "p95", "p99")

Colour = tuple[float, float, float]


def colour(name: str) -> Colour:
    found = re.search(rf"--{name}: #([0-9a-f]{{6}})", TOKENS)
    assert found, f"tokens.css has no --{name}"
    red, green, blue = (int(found[1][at : at + 2], 16) / 255 for at in (0, 2, 4))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Return the relative luminance, 0..1, as WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def dimmed(colour: Colour, ground: Colour, saturation: float, opacity: float) -> Colour:
    """Return what `filter: saturate()` and `opacity` make of a colour (Filter Effects, 6.2)."""
    grey = 0.213 * colour[0] + 0.715 * colour[1] + 0.072 * colour[2]
    pale = [grey + saturation * (c - grey) for c in colour]
    red, green, blue = (c * opacity + g * (1 - opacity) for c, g in zip(pale, ground, strict=True))
    return red, green, blue


@pytest.mark.parametrize("surface", ["ground", "panel"])
@pytest.mark.parametrize("text", TEXTS)
def test_text_stands_out(text: str, surface: str) -> None:
    assert contrast(colour(text), colour(surface)) >= 4.5


@pytest.mark.parametrize("text", TEXTS)
def test_outdated_text_is_still_readable(text: str) -> None:
    rule = r"data-outdated\] \.panel \{ filter: saturate\(([.0-9]+)\); opacity: ([.0-9]+)"
    found = re.search(rule, (STYLES / "layout.css").read_text())
    assert found
    saturation, opacity = float(found[1]), float(found[2])
    ground = colour("ground")
    shown = dimmed(colour(text), ground, saturation, opacity)
    assert contrast(shown, dimmed(colour("panel"), ground, saturation, opacity)) >= 4.5

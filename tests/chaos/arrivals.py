"""When requests come and how large they are: as recorded, or made up with the same statistics.

Azure's code trace of 2023 (Patel et al., "Splitwise", ISCA 2024): 2.6 requests a second, gaps with
a coefficient of variation of 13.2, prompts of 1,469 / 7,303 tokens and answers of 13 / 90 tokens
at the median / 95th percentile.
"""

import csv
import gzip
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = ("completion", "code", "reasoning", "analysis", "complex")
KIND_WEIGHTS = (30, 30, 15, 15, 10)
# Gaps are short inside a burst and long between bursts. With these three figures the mean is 1
# and the variation 13.2: p·s + (1-p)·L = 1, 2·p·s² + 2·(1-p)·L² = 1 + 13.2².
SHORT_GAP = 0.05
LONG_GAP = 92.0
LONG_GAP_SHARE = (1 - SHORT_GAP) / (LONG_GAP - SHORT_GAP)
NORMAL_AT_95 = 1.645
COLUMNS = "arrival_s, service, context_tokens and generated_tokens"
GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace."""

    at_s: float
    kind: str
    prompt_tokens: int
    answer_tokens: int


def bursty(count: int, seconds: float, seed: int) -> list[Arrival]:
    """Return made-up arrivals of the code trace's shape, spread over about `seconds`."""
    dice = random.Random(seed)  # noqa: S311 - repeatable load
    at, found = 0.0, []
    for _ in range(count):
        at += _gap(dice)
        prompt = _size(dice, median=1469, at_95=7303)
        found.append(Arrival(at, _kind(dice), prompt, _size(dice, median=13, at_95=90)))
    return _spread(found, seconds)


class NoTrace(Exception):
    """Raised when a file is no trace of arrivals; says why."""


def recorded(path: Path, seconds: float, seed: int) -> tuple[list[Arrival], float]:
    """Return a trace's arrivals (CSV, gzipped or not), spread over `seconds`; and how long they
    really took, in seconds. Raises NoTrace."""
    dice = random.Random(seed)  # noqa: S311 - repeatable load
    try:
        found = [_arrival(row, dice) for row in csv.DictReader(_lines(path))]
    except (OSError, EOFError, UnicodeDecodeError) as exc:
        raise NoTrace(f"it cannot be read: {exc}") from exc
    except KeyError as exc:
        raise NoTrace(f"it has no column {exc}; {COLUMNS} are needed") from exc
    except (TypeError, ValueError) as exc:
        raise NoTrace(f"a row of it is not understood: {exc}") from exc
    if len(found) < 2 or found[-1].at_s <= found[0].at_s:
        raise NoTrace("it needs at least two rows, in the order of their times")
    return _spread(found, seconds), found[-1].at_s - found[0].at_s


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    packed = content.startswith(GZIP)
    return (gzip.decompress(content) if packed else content).decode().splitlines()


def _arrival(row: dict[str, str], dice: random.Random) -> Arrival:
    # The trace tells code from conversation; what the latter is about it does not tell.
    kind = "code" if row["service"] == "code" else _kind(dice)
    return Arrival(
        float(row["arrival_s"]), kind, int(row["context_tokens"]), int(row["generated_tokens"])
    )


def variation(arrivals: list[Arrival]) -> float:
    """Return the coefficient of variation of the gaps."""
    gaps = list(_gaps(arrivals))
    mean = sum(gaps) / len(gaps)
    return math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean


def _gaps(arrivals: list[Arrival]) -> Iterator[float]:
    for before, after in zip(arrivals, arrivals[1:], strict=False):
        yield after.at_s - before.at_s


def _gap(dice: random.Random) -> float:
    mean = LONG_GAP if dice.random() < LONG_GAP_SHARE else SHORT_GAP
    return dice.expovariate(1 / mean)


def _kind(dice: random.Random) -> str:
    return dice.choices(KINDS, KIND_WEIGHTS)[0]


def _size(dice: random.Random, *, median: int, at_95: int) -> int:
    """Return a log-normal size with that median and 95th percentile."""
    spread = math.log(at_95 / median) / NORMAL_AT_95
    return max(1, round(median * math.exp(spread * dice.gauss(0, 1))))


def _spread(arrivals: list[Arrival], seconds: float) -> list[Arrival]:
    first, last = arrivals[0].at_s, arrivals[-1].at_s
    scale = seconds / (last - first)
    return [
        Arrival((a.at_s - first) * scale, a.kind, a.prompt_tokens, a.answer_tokens)
        for a in arrivals
    ]

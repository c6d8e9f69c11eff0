"""How tight memory is, 0 to 1, out of what is used, what stalls and how full the swap is.

    pressure = max(used, stalled, swapped), each of them 0..1 and rising with its figure

used     1 - available / total. What a new model could take, so the base of it all.
stalled  from the kernel's PSI averages over ten seconds, in percent of wall time:
         `stall = max(full, some / 2)`, along STALLS. `full` (nobody got on) counts whole and `some`
         (one at least waited) half, as one slow reader is no emergency. 5 % is felt (0.70), 10 % is
         where userspace OOM killers are set to watch (0.80), 20 % is thrashing (0.90); systemd-oomd
         kills at 60 %, so 1.0 at 40 % is before it.
swapped  0 while at most half of the swap is used, then linearly to 0.75 when it is full: pages
         written out once and never missed are no trouble, so swap alone reaches `elevated` and
         refuses nothing. Pages that are missed stall their readers, which PSI counts at once.
"""

from itertools import pairwise

import msgspec

STALLS = ((0.0, 0.0), (5.0, 0.70), (10.0, 0.80), (20.0, 0.90), (40.0, 1.0))
SWAP_IDLE_PERCENT = 50.0
SWAP_MOST = 0.75


class Stall(msgspec.Struct, frozen=True):
    """PSI of memory: percent of the last ten seconds in which some or all tasks waited for it."""

    some: float = 0.0
    full: float = 0.0


CALM = Stall()


def pressure_of(used: float, stall: Stall = CALM, swap_percent: float = 0.0) -> float:
    """Return the pressure by the formula of this module."""
    return min(1.0, max(0.0, used, stalled(stall), swapped(swap_percent)))


def stalled(stall: Stall) -> float:
    """Return what the stalls alone make of the pressure."""
    percent = max(stall.full, stall.some / 2)
    for (low, at_low), (high, at_high) in pairwise(STALLS):
        if percent < high:
            return at_low + (at_high - at_low) * max(0.0, percent - low) / (high - low)
    return 1.0


def swapped(swap_percent: float) -> float:
    """Return what swap alone makes of the pressure."""
    over = max(0.0, swap_percent - SWAP_IDLE_PERCENT) / (100 - SWAP_IDLE_PERCENT)
    return SWAP_MOST * min(1.0, over)


def parse(content: bytes) -> Stall:
    """Return the figures of a PSI file; calm where there are none."""
    found = {"some": 0.0, "full": 0.0}
    for line in content.decode(errors="replace").splitlines():
        kind, _, rest = line.partition(" avg10=")
        if kind in found:
            found[kind] = _percent(rest.partition(" ")[0])
    return Stall(found["some"], found["full"])


def _percent(text: str) -> float:
    try:
        return min(100.0, max(0.0, float(text)))
    except ValueError:
        return 0.0

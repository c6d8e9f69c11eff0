"""`make oom`: how often an engine dies of its memory, without the orchestra and with it."""

import argparse
import asyncio
import sys
from pathlib import Path

from benchmarks import report
from tests.chaos import oom
from tests.chaos.arrivals import NoTrace, bursty, recorded, variation
from tests.chaos.house import folder

MADE_UP_A_SECOND = 20
# Engines answer twice as fast as the trace is sped up: the real ones had more than one machine.
SPARE = 2.0


def main() -> int:
    """Return 0 if the orchestra's engine never died and served at least as many."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.oom", description=__doc__)
    parser.add_argument("--data", type=Path, help="recorded arrivals, azure_llm_2023.csv.gz")
    parser.add_argument("--seconds", type=float, help="length of each side's run (20; 600)")
    parser.add_argument("--limit-by", choices=("cgroup", "rlimit"))
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    seconds = options.seconds or (600.0 if options.data else 20.0)
    if options.data:
        try:
            arrivals, lasted_s = recorded(options.data, seconds, options.seed)
        except NoTrace as exc:
            parser.error(f"--data {options.data}: {exc}")
        speed = SPARE * lasted_s / seconds
    else:
        arrivals = bursty(round(MADE_UP_A_SECOND * seconds), seconds, options.seed)
        speed = SPARE
    with folder() as place:
        first, ours = asyncio.run(
            oom.compare(arrivals, place, speed=speed, enforced_by=options.limit_by)
        )
    print(f"{len(arrivals)} requests in {seconds:.0f} s, variation {variation(arrivals):.1f};")
    print(f"limit by {ours.enforced_by}; commit {report.machine()['commit']}\n")
    print(report.table(HEADINGS, [_row(first), _row(ours)]))
    return 0 if ours.deaths == 0 and ours.served >= first.served else 1


HEADINGS = (
    "chooser", "deaths", "served", "failed", "p50 ms", "p95 ms", "most memory used", "loads",
)  # fmt: skip


def _row(side: oom.Outcome) -> tuple[object, ...]:
    return (
        side.side, side.deaths, side.served, side.failed, side.percentile_ms(0.5),
        side.percentile_ms(0.95), f"{side.most_used:.0%}", side.loads,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

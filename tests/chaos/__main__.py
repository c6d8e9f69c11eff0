"""`make chaos`: the availability test for ten minutes, the outages of Redis and PostgreSQL, then
records while processes are killed."""

import argparse
import asyncio
import sys

from benchmarks.report import machine, table
from tests.chaos import availability, books, outage, verdict
from tests.chaos.asking import Verdict
from tests.chaos.availability import Plan, Result
from tests.chaos.house import folder

OUTAGE_S = 10.0
BOOKS_S = 120.0


def main() -> int:
    """Return 0 if every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of trouble (%(default)s)")
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--deadline-s", type=float, default=120.0, help="(%(default)s)")
    parser.add_argument("--longest-s", type=float, default=15.0, help="of one trouble")
    parser.add_argument(
        "--rested-s",
        type=float,
        default=5.0,
        help="how long the endpoint has been well that stays so (%(default)s)",
    )
    parser.add_argument("--only", choices=("availability", "outages", "books"))
    told = vars(parser.parse_args())
    only = told.pop("only")
    faults: list[str] = []
    if only in (None, "availability"):
        faults += _availability(Plan(**told))
    if only in (None, "outages"):
        faults += _outages(told["rate"], told["seed"])
    if only in (None, "books"):
        faults += _books(min(told["seconds"], BOOKS_S), told["seed"])
    print("\n".join(["", *(f"BROKEN  {fault}" for fault in faults)]))
    return 1 if faults else 0


def _availability(plan: Plan) -> list[str]:
    with folder() as place:
        result = asyncio.run(availability.measure(place, plan))
    print(show(result), end="\n\n")
    return result.faults


def _outages(rate: float, seed: int) -> list[str]:
    with folder() as place:
        result = asyncio.run(outage.measure(place, rate=rate, outage_s=OUTAGE_S, seed=seed))
    rows = [
        (
            each.name, ", ".join(sorted(each.health)), each.spool_bytes,
            "no" if each.healthy_after_s is None else f"{each.healthy_after_s:.1f} s",
        )
        for each in result.outages
    ]  # fmt: skip
    tally = result.tally
    print(table(("outage", "health meanwhile", "bytes in the spool", "healthy again after"), rows))
    print(f"\n{tally.asked} requests, {tally.complete_share:.3%} complete;")
    print(f"{result.missing} records missing, {result.doubled} doubled.")
    print("\n".join(f"{code}: {count}" for code, count in tally.errors.items()))
    print("\n".join(tally.oddities))
    return result.faults


def _books(seconds: float, seed: int) -> list[str]:
    with folder() as place:
        result = asyncio.run(books.measure(place, seconds=seconds, seed=seed))
    print(verdict.show(result), end="\n\n")
    return result.faults


def show(result: Result) -> str:
    """Return the tables of a run."""
    tally, plan = result.tally, result.plan
    took = sorted(tally.took_s) or [0.0]
    rows: list[tuple[str, int]] = [(verdict, tally.verdicts[verdict]) for verdict in Verdict]
    rows += [("failed attempts", result.absorbed), ("records missing", result.missing)]
    rows += [("records doubled", result.doubled)]
    ways = sorted({way for way, _ in tally.by_way})
    head = ("asked by", *Verdict)
    by_way = [(way, *(tally.by_way[way, verdict] for verdict in Verdict)) for way in ways]
    return "\n\n".join(
        [
            f"{tally.asked} requests, {plan.rate:g} a second for {plan.seconds:g} s, commit"
            f" {machine()['commit']}: {tally.complete_share:.3%} complete; p50"
            f" {took[len(took) // 2]:.2f} s, p99 {took[int(0.99 * len(took))]:.2f} s, slowest"
            f" {took[-1]:.2f} s",
            table(("callers got", "requests"), rows),
            table(head, by_way),
            table(("trouble", "times"), sorted(result.befell.items())),
            table(("explicit error", "times"), tally.errors.most_common()),
            *tally.oddities,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

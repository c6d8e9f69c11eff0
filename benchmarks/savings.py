"""`make savings DATA=…`: real questions, replayed under routing policies; cost against quality.

The engine decides by rules and capability records alone: it never sees a question's text, nor
whether any model got it right. What later routing learns is to be judged against this.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.prices import Price, prices_of, read_prices
from benchmarks.questions import BadData, Questions, read_all
from benchmarks.replay import Replay, Result, mixed_accuracy

HEADINGS = (
    "policy", "right %", "of strongest %", "$ per 1,000", "saved %", "mix at this cost %",
    "answered by",
)  # fmt: skip
SHOWN_SHARE = 0.005


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.savings", description=__doc__)
    parser.add_argument("--data", required=True, help="directory of .csv or .csv.gz files")
    parser.add_argument("--prices", type=Path, help="CSV of other prices")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args(argv)
    try:
        others = read_prices(options.prices)
        found = [measure(questions, others) for questions in read_all(options.data)]
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    except (BadData, OSError) as exc:
        print(f"make savings: {exc}", file=sys.stderr)
        return 2
    for one in found:
        print(show(one))
    return 0


def measure(questions: Questions, others: dict[str, Price]) -> dict[str, Any]:
    """Return every policy's figures on the questions of one file."""
    replay = Replay(questions, prices_of(questions.models, others))
    singles = [replay.single(model.name) for model in replay.records]
    results = replay.results()
    strongest = results[0]
    return {
        "name": questions.name,
        "calibrated_on": len(replay.calibration),
        "replayed": len(replay.replayed),
        "left_out": questions.left_out,
        "strongest": replay.strongest,
        "models": [
            {
                "model": model.name,
                "tier": model.quality_tier,
                "capabilities": list(model.capabilities),
                "right_percent": round(100 * single.accuracy, 2),
                "usd_per_1k": round(single.usd_per_1k, 6),
            }
            for model, single in zip(replay.records, singles, strict=True)
        ],
        "policies": [_figures(result, strongest, singles) for result in results],
    }


def _figures(result: Result, strongest: Result, singles: list[Result]) -> dict[str, Any]:
    return {
        "policy": result.policy,
        "right_percent": round(100 * result.accuracy, 2),
        "of_strongest_percent": round(100 * result.accuracy / strongest.accuracy, 2),
        "usd_per_1k": round(result.usd_per_1k, 6),
        "saved_percent": round(100 * (1 - result.usd_per_1k / strongest.usd_per_1k), 2),
        "mix_percent": round(100 * mixed_accuracy(singles, result.usd_per_1k), 2),
        "answered_by": {m: round(s, 4) for m, s in result.shares.items()},
    }


def show(found: dict[str, Any]) -> str:
    """Return the tables of one file."""
    head = (
        f"## {found['name']}: {found['replayed']} questions replayed, capability records made of "
        f"{found['calibrated_on']} others, {found['left_out']} left out"
    )
    models = report.table(
        ("model", "tier", "can do", "right %", "$ per 1,000"),
        [
            (m["model"], m["tier"], ", ".join(m["capabilities"]), f"{m['right_percent']:.1f}",
             f"{m['usd_per_1k']:.4f}")
            for m in sorted(found["models"], key=lambda m: -m["right_percent"])
        ],
    )  # fmt: skip
    return f"{head}\n\n{models}\n\n{report.table(HEADINGS, [_row(p) for p in found['policies']])}\n"


def _row(figures: dict[str, Any]) -> tuple[str, ...]:
    by = sorted(figures["answered_by"].items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{model} {100 * share:.0f} %" for model, share in by if share >= SHOWN_SHARE]
    return (
        figures["policy"],
        f"{figures['right_percent']:.1f}",
        f"{figures['of_strongest_percent']:.1f}",
        f"{figures['usd_per_1k']:.4f}",
        f"{figures['saved_percent']:.1f}",
        f"{figures['mix_percent']:.1f}",
        "all alike" if figures["policy"] == "random" else ", ".join(shown),
    )


if __name__ == "__main__":
    sys.exit(main())

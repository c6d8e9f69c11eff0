"""`make bench`: measure everything, print the tables, keep the JSON."""

import argparse
import sys

from benchmarks import decisions, http, report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=("decisions", "http"))
    parser.add_argument("--rounds", type=int, default=http.ROUNDS, help="rounds of bare and ours")
    parser.add_argument("--seconds", type=float, default=http.SECONDS, help="length of a wrk run")
    options = parser.parse_args()
    results: dict[str, object] = {"machine": report.machine()}
    if options.only != "http":
        results["decisions"] = decisions.measure()
    if options.only != "decisions":
        results["http"] = http.measure(options.rounds, options.seconds)
    print(report.show(results))
    print(f"\nKept in {report.write(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

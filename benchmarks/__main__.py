"""`make bench`: measure everything, print the tables, keep the JSON."""

import argparse
import sys

from benchmarks import controls, decisions, http, keys, pressure, report, streams


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", choices=("controls", "decisions", "http", "keys", "pressure", "streams")
    )
    parser.add_argument("--rounds", type=int, default=http.ROUNDS, help="rounds of bare and ours")
    parser.add_argument("--seconds", type=float, default=http.SECONDS, help="length of a wrk run")
    parser.add_argument("--streams", type=int, default=streams.STREAMS, help="open at once")
    options = parser.parse_args()
    results: dict[str, object] = {"machine": report.machine()}
    if options.only in (None, "pressure"):
        results["pressure"] = pressure.run()
    if options.only in (None, "decisions"):
        results["decisions"] = decisions.measure()
    if options.only in (None, "keys"):
        results["keys"] = keys.measure()
    if options.only in (None, "http"):
        results["http"] = http.measure(options.rounds, options.seconds)
    if options.only in (None, "controls"):
        rates, costs = controls.measure(options.rounds, options.seconds)
        results |= {"controls": rates, "controls_cpu": costs}
    if options.only in (None, "streams"):
        results["streams"] = streams.measure(options.streams)
    print(report.show(results))
    print(f"\nKept in {report.write(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m routing.simulator`: a stand-in Ollama on this machine."""

import argparse
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from routing.simulator.course import Simulator
from routing.simulator.limits import CannotLimit, enforce
from routing.simulator.memory import Allocated
from routing.simulator.models import (
    MB,
    BadModelsFile,
    Catalogue,
    preset,
    presets,
    read_catalogue,
)
from routing.simulator.server import CannotListen, listen, server, url_of


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m routing.simulator",
        description="Serve simulated models over Ollama's and OpenAI's protocols.",
    )
    options.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    options.add_argument("--port", type=_port, default=11434, help="0: a free one (%(default)s)")
    which = options.add_mutually_exclusive_group()
    which.add_argument("--preset", default="ollama", help=f"one of {', '.join(presets())}")
    which.add_argument("--models", type=Path, metavar="FILE", help="a models file (YAML or JSON)")
    options.add_argument("--speed", type=_positive, default=1.0, help="times are divided by it")
    options.add_argument("--instant", action="store_true", help="answer at once, without delays")
    options.add_argument("--memory-gb", type=_positive, help="instead of the models file's")
    options.add_argument("--max-queue", type=_count, help="instead of the models file's")
    options.add_argument("--max-loaded", type=_count, help="instead of the models file's")
    options.add_argument("--allocate", action="store_true", help="really take models' memory")
    options.add_argument(
        "--memory-limit-mb", type=_positive, help="with --allocate: more of it is the end"
    )
    options.add_argument(
        "--limit-by", choices=("cgroup", "rlimit"), help="what enforces it, instead of either"
    )
    options.add_argument("--seed", type=int, default=0, help="of faults with a probability")
    return options


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port; use 0 to 65535")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not (number > 0 and math.isfinite(number)):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; use 1 or more")
    return number


def catalogue_for(options: argparse.Namespace) -> Catalogue:
    """Return the models and the host that the options ask for; raises BadModelsFile."""
    chosen = preset(options.preset) if options.models is None else read_catalogue(options.models)
    asked = {
        "memory_gb": options.memory_gb,
        "max_queue": options.max_queue,
        "max_loaded": options.max_loaded,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    host = msgspec.structs.replace(chosen.host, **given)
    return msgspec.structs.replace(chosen, host=host)


def _memory(options: argparse.Namespace, catalogue: Catalogue) -> Allocated | None:
    if not options.allocate:
        return None
    limit = enforce(round(options.memory_limit_mb * MB), options.limit_by)
    return Allocated(limit, catalogue.host.scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit status, 2 for anything wrongly asked for."""
    options = parser().parse_args(arguments)
    if options.allocate != (options.memory_limit_mb is not None):
        parser().error("--allocate and --memory-limit-mb need each other")
    try:
        catalogue = catalogue_for(options)
        listener = listen(options.host, options.port)
        memory = _memory(options, catalogue)
    except (BadModelsFile, CannotListen, CannotLimit) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    sim = Simulator(
        catalogue,
        speed=options.speed,
        instant=options.instant,
        seed=options.seed,
        memory=memory,
    )
    sys.stdout.write(
        f"Simulated Ollama on {url_of(listener)}: {len(catalogue.models)} models,"
        f" {catalogue.host.memory_gb:g} GB. Answers are made up.\n"
    )
    sys.stdout.flush()
    # uvicorn stops in order, then raises the signal once more; here that is a plain exit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    server(sim).run([listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())

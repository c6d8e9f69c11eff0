"""The command line's grammar: options, value types and suggestions for what was misspelt."""

import argparse
import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from cli.errors import UsageFault

TASK_TYPES = ("completion", "reasoning", "code", "embedding", "analysis")
COMPLEXITIES = ("simple", "moderate", "complex")
PRIORITIES = ("low", "normal", "high", "critical")
QUALITIES = ("basic", "good", "high", "exceptional")

_WIDTH = 96
_LONGEST_TIMEOUT_S = 86_400
_DEFAULT_PORT = "8080"
_TAKES_VALUE = frozenset({"--url", "--timeout"})


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        # A width spares the import of shutil, which asks the terminal for it.
        super().__init__(prog, width=_WIDTH)


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageFault, and names the nearest option for an unknown one."""

    def __init__(
        self, prog: str, *, description: str = "", epilog: str = "", add_help: bool = True
    ) -> None:
        super().__init__(
            prog,
            description=description,
            epilog=epilog,
            add_help=add_help,
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
        )

    def flags(self) -> list[str]:
        """Return every option, as it is typed."""
        return [option for action in self._actions for option in action.option_strings]

    def error(self, message: str) -> NoReturn:
        raise UsageFault(f"{message.removeprefix('argument ')}\nSee '{self.prog} --help'.")

    def parse_onto(self, namespace: argparse.Namespace, argv: Sequence[str]) -> None:
        """Parse all of `argv`; what `namespace` already holds stays unless it is given again."""
        _, unknown = self.parse_known_args(argv, namespace)
        if unknown:
            hint = nearest(unknown[0], self.flags())
            self.error(f"{unknown[0]!r} is not expected here{hint}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest known word, or nothing when none is close."""
    matches = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    """Return an argument type that accepts these words only."""

    def word(text: str) -> str:
        if text in words:
            return text
        hint = nearest(text, words)
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(words)}{hint}")

    return word


def whole(minimum: int) -> Callable[[str], int]:
    """Return an argument type for whole numbers from `minimum` on."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {minimum} or more")
        return value

    return number


def amount(minimum: float) -> Callable[[str], float]:
    """Return an argument type for finite numbers from `minimum` on."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} must be a number, {minimum:g} or more")
        return value

    return number


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _LONGEST_TIMEOUT_S:
        expected = f"a number above 0, at most {_LONGEST_TIMEOUT_S}"
        raise argparse.ArgumentTypeError(f"{text!r} must be {expected}")
    return value


def add_global_options(parser: Parser) -> None:
    """Add what may stand before the command as well as after it."""
    group = parser.add_argument_group("connection and output")
    group.add_argument(
        "--url",
        metavar="URL",
        help="address of the service (default: ORCHESTRA_URL, else 127.0.0.1 at API_PORT or 8080)",
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="how long to wait for a whole answer (default: 10; for route: 130)",
    )
    group.add_argument(
        "--no-color", action="store_true", help="never colour the output (also: NO_COLOR)"
    )


def split_at_command(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the options before the command, and the command with all that follows it."""
    index = 0
    while index < len(argv) and argv[index].startswith("-"):
        index += 2 if argv[index] in _TAKES_VALUE else 1
    return argv[:index], argv[index:]


def default_url(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return the address when --url is absent, and which variable it came from."""
    if environ.get("ORCHESTRA_URL"):
        return environ["ORCHESTRA_URL"], "ORCHESTRA_URL"
    port = environ.get("API_PORT") or _DEFAULT_PORT
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise UsageFault(f"API_PORT: {port!r} must be a port number from 1 to 65535.")
    return f"http://127.0.0.1:{port}", "API_PORT"


def default_key(environ: Mapping[str, str] = os.environ) -> str:
    """Return the API key to send; from the environment only, where other users do not see it."""
    key = environ.get("ORCHESTRA_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        # Not repeated: it may be a key with a character too many.
        raise UsageFault("ORCHESTRA_API_KEY: Set it to an API key, without blanks or line breaks.")
    return key

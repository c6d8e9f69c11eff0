"""What a command is, and what it is given to run with."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cli.arguments import Parser, add_global_options, default_key, default_url
from cli.output import Console

if TYPE_CHECKING:
    from cli.client import Client

_TIMEOUT_S = 10.0


class Context(NamedTuple):
    """The parsed arguments of one run, and where its output goes."""

    args: argparse.Namespace
    console: Console

    def client(self, *, timeout_s: float = _TIMEOUT_S) -> "Client":
        """Return a client for the chosen address; `timeout_s` holds unless --timeout was given."""
        # Imported late: http.client costs 30 ms that help and usage errors need not pay.
        from cli.client import BaseUrl, Client

        text, source = (self.args.url, "--url") if self.args.url is not None else default_url()
        base = BaseUrl.parse(text, source=source)
        return Client(base, self.args.timeout or timeout_s, default_key())


def _no_arguments(parser: Parser) -> None:
    del parser


class Command(NamedTuple):
    """A word of the command line.

    Without `run` it is handed over to `manage.py`, and so is what begins with one of `local_words`.
    """

    name: str
    summary: str
    add_arguments: Callable[[Parser], None] = _no_arguments
    run: Callable[[Context], int] | None = None
    epilog: str = ""
    local_words: tuple[str, ...] = ()

    def parser(self, prog: str) -> Parser:
        """Return the grammar of this command, global options included."""
        parser = Parser(f"{prog} {self.name}", description=self.summary, epilog=self.epilog)
        self.add_arguments(parser)
        if self.run is not None:
            add_global_options(parser)
        return parser


def add_json(parser: Parser) -> None:
    """Add --json, which every command that asks the service has."""
    parser.add_argument("--json", action="store_true", help="print the raw JSON of the answer")


def without_absent(**fields: object) -> dict[str, object]:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}

"""`version`: of this command line, and of the service where one answers."""

import json
from contextlib import suppress

from cli import checkout
from cli.arguments import Parser
from cli.commands.base import Command, Context, add_json
from cli.errors import OK, Refused, Unreachable
from cli.view import dig, text

_API = "v1"


def run(context: Context) -> int:
    """Print both versions; a service that is away is no failure here."""
    client = context.client()
    service = None
    with suppress(Unreachable, Refused):
        service = dig(client.health().document, "version")
    cli, api = checkout.version(), text(service) if service else "unknown"
    if context.args.json:
        told = {"cli": cli, "service": api, "api": _API, "url": client.base.text}
        context.console.raw(json.dumps(told).encode())
    else:
        context.console.fields(
            [("ai-orchestra", cli), ("service", f"{api} at {client.base.text}"), ("API", _API)]
        )
    return OK


def _arguments(parser: Parser) -> None:
    add_json(parser)


COMMAND = Command(
    name="version",
    summary="Show CLI and API version information.",
    add_arguments=_arguments,
    run=run,
    epilog="Without a service its version is 'unknown' and the exit code still 0.",
)

"""`down`: stop the service that `up` runs with this ORCHESTRA_HOME."""

import argparse
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from cli.arguments import Parser
from cli.errors import OK, CliError
from cli.output import standard_console
from orchestra_site import environ, home

# `up` itself allows its children up to 12 s in all.
_LIMIT_S = 20.0
_POLL_S = 0.1


def main(argv: Sequence[str]) -> int:
    """Ask the supervisor to stop and wait for it; 0 too when nothing was running."""
    parser = Parser("ai-orchestra down", description="Stop what 'up' started.")
    parser.parse_onto(argparse.Namespace(), argv)
    where = home.Home(environ.read().home)
    found = home.running(where)
    console = standard_console(no_color=True)
    if found is None:
        console.line(f"Nothing runs with ORCHESTRA_HOME {where.root}.")
        return OK
    try:
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGTERM)
    except PermissionError as fault:
        raise CliError(f"Process {found.pid} belongs to somebody else; stop it as them.") from fault
    deadline_s = time.monotonic() + _LIMIT_S
    while home.running(where) is not None:
        if time.monotonic() > deadline_s:
            raise CliError(f"Process {found.pid} has not stopped within {_LIMIT_S:g} s.")
        time.sleep(_POLL_S)
    console.line(f"Stopped {found.url} (process {found.pid}).")
    return OK

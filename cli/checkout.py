"""What the command line takes from the checkout it lies in."""

import os
from collections.abc import Sequence
from typing import NoReturn

from cli.errors import CliError

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def version() -> str:
    """Return the version of this checkout, as pyproject.toml states it."""
    import tomllib  # 8 ms that only `version` pays

    try:
        with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
            project = tomllib.load(file)["project"]
    except (OSError, ValueError, KeyError):
        return "unknown"
    return str(project["version"])


def hand_over(command: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `manage.py ai-orchestra COMMAND …`, which has Django."""
    python = os.path.join(ROOT, ".venv", "bin", "python")
    if not os.path.exists(python):
        raise CliError(
            f"'{command}' runs in the checkout's .venv, and {ROOT} has none. Run 'make run' there."
        )
    argv = [python, os.path.join(ROOT, "manage.py"), "ai-orchestra", command, *arguments]
    try:
        os.execv(python, argv)  # noqa: S606 - no shell; the arguments stay as they were typed
    except OSError as fault:
        raise CliError(f"{python} cannot be run: {fault.strerror}. Run 'make run'.") from fault

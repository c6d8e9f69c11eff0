"""What the command line takes from the checkout it lies in."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cli.errors import CliError

ROOT = Path(__file__).resolve().parent.parent


def version() -> str:
    """Return the version of this checkout, as pyproject.toml states it."""
    import tomllib  # 8 ms that only `version` pays

    try:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return "unknown"
    return str(project["version"])


def hand_over(command: str, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `manage.py ai-orchestra COMMAND …`, which has Django."""
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        raise CliError(
            f"'{command}' runs in the checkout's .venv, and {ROOT} has none. Run 'make run' there."
        )
    argv = [str(python), str(ROOT / "manage.py"), "ai-orchestra", command, *arguments]
    os.execv(python, argv)  # noqa: S606 - no shell; the arguments stay as they were typed

"""Tables line up, and colour is for terminals only."""

import io
import os
import pty
import subprocess

import pytest

from cli.output import Cell, Console, wants_colour
from tests.cli.conftest import SCRIPT
from tests.cli.service import Service
from tests.environment import outside


def written(*, colour: bool) -> str:
    stream = io.StringIO()
    console = Console(stream, colour=colour)
    rows = [[Cell("a", "green"), Cell("1", right=True)], [Cell("long"), Cell("1,000", right=True)]]
    console.table(["Name", "N"], rows)
    return stream.getvalue()


def test_numbers_are_aligned_to_the_right() -> None:
    assert written(colour=False) == "NAME      N\na         1\nlong  1,000\n"


def test_colour_does_not_disturb_the_columns() -> None:
    coloured = written(colour=True)
    assert "\x1b[32ma\x1b[0m   " in coloured
    for code in ("\x1b[32m", "\x1b[1m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == written(colour=False)


def on_terminal(*arguments: str, **environ: str) -> str:
    """Return what the script writes to a real terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        environment = outside() | {"TERM": "xterm"} | environ
        subprocess.run([str(SCRIPT), *arguments], stdout=theirs, env=environment, timeout=30)
        os.close(theirs)
        return terminal.read(65536).decode()


@pytest.mark.parametrize(
    ("arguments", "environ", "coloured"),
    [
        (("health",), {}, True),
        (("health", "--no-color"), {}, False),
        (("--no-color", "health"), {}, False),
        (("health",), {"NO_COLOR": "1"}, False),
        (("health",), {"TERM": "dumb"}, False),
    ],
)
def test_colour_on_a_terminal(
    service: Service, arguments: tuple[str, ...], environ: dict[str, str], coloured: bool
) -> None:
    shown = on_terminal(*arguments, "--url", service.url, **environ)
    assert "healthy" in shown
    assert ("\x1b[32mhealthy\x1b[0m" in shown) is coloured


def test_no_colour_elsewhere() -> None:
    assert not wants_colour(io.StringIO(), {"TERM": "xterm"})

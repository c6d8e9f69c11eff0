"""Readable output: aligned fields and tables, coloured only on a terminal."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TextIO

ABSENT = "–"
_CODES = {"green": "32", "yellow": "33", "red": "31", "bold": "1", "dim": "2"}


class Cell(NamedTuple):
    """One value of a table; numbers are aligned to the right."""

    text: str
    colour: str = ""
    right: bool = False


def printable(text: str) -> str:
    """Return `text` with control characters spelt out, so that no answer can drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return True on a terminal, unless NO_COLOR (no-color.org) or TERM=dumb says otherwise."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class Console:
    """Standard output, as the commands use it."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self._stream = stream
        self._colour = colour

    def raw(self, body: bytes) -> None:
        """Write an answer's bytes as they came, and end the line."""
        self._stream.flush()
        buffer = self._stream.buffer
        buffer.write(body if body.endswith(b"\n") else body + b"\n")
        buffer.flush()

    def line(self, text: str = "", colour: str = "") -> None:
        """Write one line, or several where the text has them."""
        print(self._paint(printable(text), colour), file=self._stream)

    def fields(self, rows: Sequence[tuple[str, Cell | str]]) -> None:
        """Write a label and a value a line, the values below each other."""
        width = max((len(label) for label, _ in rows), default=0)
        for label, value in rows:
            cell = value if isinstance(value, Cell) else Cell(value)
            padded = self._paint(f"{label:<{width}}", "dim")
            print(f"{padded}  {self._shown(cell)}", file=self._stream)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Write the rows under their headers; a column is as wide as its widest cell."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(headers)
        rights = [any(cell.right for cell in column) for column in columns]
        top = [Cell(h.upper(), "bold", right) for h, right in zip(headers, rights, strict=True)]
        lines = [top, *rows]
        widths = [
            max(len(printable(c.text)) for c in column) for column in zip(*lines, strict=True)
        ]
        for line in lines:
            cells = zip(line, widths, rights, strict=True)
            print("  ".join(self._aligned(*cell) for cell in cells).rstrip(), file=self._stream)

    def _aligned(self, cell: Cell, width: int, right: bool) -> str:
        padding = " " * (width - len(printable(cell.text)))
        shown = self._shown(cell)
        return padding + shown if right else shown + padding

    def _shown(self, cell: Cell) -> str:
        return self._paint(printable(cell.text), cell.colour)

    def _paint(self, text: str, colour: str) -> str:
        if not self._colour or not colour or not text:
            return text
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def standard_console(*, no_color: bool) -> Console:
    """Return the console on standard output."""
    colour = not no_color and wants_colour(sys.stdout, os.environ)
    return Console(sys.stdout, colour=colour)

"""`policy`: the policy as a file, by the same rules as in the admin."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cli.arguments import Parser, nearest
from cli.errors import OK, USAGE, OutputFault, UsageFault
from cli.management.database import actor, database_explained
from cli.output import standard_console


def main(argv: Sequence[str]) -> int:
    """Export, check or apply; 2 when the file is wrong, 3 when the database does not answer."""
    args = _parse(argv)
    with database_explained():
        return _ACTIONS[args.action](args.file)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "ai-orchestra policy",
        description="Export, check or apply the policy as a YAML file (docs/policy.md).",
        epilog="export without FILE prints; check and apply read standard input for -.",
    )
    parser.add_argument("action", metavar="ACTION", help=", ".join(_ACTIONS))
    parser.add_argument("file", metavar="FILE", nargs="?", help="the policy file")
    args = argparse.Namespace()
    parser.parse_onto(args, argv)
    if args.action not in _ACTIONS:
        known = ", ".join(_ACTIONS)
        parser.error(f"{args.action!r} is not one of {known}{nearest(args.action, _ACTIONS)}")
    if args.file is None and args.action != "export":
        parser.error(f"{args.action} needs a FILE, or - for standard input")
    return args


def _export(file: str | None) -> int:
    from routing.policy.file import export_policy

    text = export_policy()
    if file is None or file == "-":
        standard_console(no_color=True).raw(text.encode())
    else:
        _write(Path(file), text)
    return OK


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Whole or not at all: a full disk must not cost the file that was there.
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as fault:
        draft.unlink(missing_ok=True)
        raise OutputFault(f"{path} cannot be written: {fault.strerror}.") from fault


def _check(file: str) -> int:
    from routing.policy.file import check_policy

    report = check_policy(_read(file))
    standard_console(no_color=True).line(report.text())
    return OK if report.ok else USAGE


def _apply(file: str) -> int:
    from routing.policy.file import apply_policy

    report = apply_policy(_read(file), actor=actor())
    standard_console(no_color=True).line(report.text())
    return OK if report.ok else USAGE


_ACTIONS: dict[str, Callable[[str], int]] = {
    "export": _export,
    "check": _check,
    "apply": _apply,
}


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as fault:
        raise UsageFault(f"{file} cannot be read: {fault.strerror}.") from fault
    except UnicodeDecodeError as fault:
        raise UsageFault(f"{file} must be UTF-8 text; byte {fault.start} is not.") from fault

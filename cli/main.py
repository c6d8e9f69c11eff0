"""From an argument list to an exit code."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence

from cli import checkout
from cli.arguments import Parser, add_global_options, split_at_command
from cli.commands.base import Command, Context
from cli.commands.help import PROG, command_named, overview
from cli.errors import BROKEN_PIPE, INTERRUPTED, OK, CliError, OutputFault, Refused
from cli.output import printable, standard_console

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})

LocalCommand = Callable[[str, Sequence[str]], int]


def main(argv: Sequence[str], local: LocalCommand = checkout.hand_over) -> int:
    """Run one command and return its exit code; `local` runs what no service answers."""
    try:
        code = _run(argv, local)
        sys.stdout.flush()
    except CliError as fault:
        print(f"{PROG}: {printable(str(fault))}", file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except OSError as fault:
        if fault.errno not in _CANNOT_WRITE:
            raise
        _forget_stdout()
        print(f"{PROG}: The output cannot be written: {fault.strerror}.", file=sys.stderr)
        return OutputFault.exit_code
    return code


def _spare_encoding() -> None:
    # A terminal that cannot show a character gets a question mark, not a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _forget_stdout() -> None:
    # What is still buffered would fail once more when the interpreter exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run(argv: Sequence[str], local: LocalCommand) -> int:
    if sys.stdout is None:
        raise OutputFault("Standard output is closed; there is nowhere to write the answer.")
    _spare_encoding()
    before, rest = split_at_command(argv)
    args = argparse.Namespace()
    _top_parser().parse_onto(args, before)
    console = standard_console(no_color=args.no_color)
    if args.version:
        console.line(f"{PROG} {checkout.version()}")
    elif args.help or not rest:
        overview(console)
    else:
        return _run_command(command_named(rest[0]), rest[1:], args, local)
    return OK


def _run_command(
    command: Command, argv: Sequence[str], args: argparse.Namespace, local: LocalCommand
) -> int:
    if command.run is None or (argv and argv[0] in command.local_words):
        return local(command.name, argv)
    try:
        command.parser(PROG).parse_onto(args, argv)
    except SystemExit:  # argparse has printed the help
        return OK
    console = standard_console(no_color=args.no_color)
    try:
        return command.run(Context(args, console))
    except Refused as refusal:
        if getattr(args, "json", False):
            console.raw(refusal.body)
        raise


def _top_parser() -> Parser:
    parser = Parser(PROG, add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    add_global_options(parser)
    return parser

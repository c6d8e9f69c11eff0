"""`export`: the records of a period as a file."""

import os

from cli.arguments import Parser, one_of
from cli.commands.base import Command, Context
from cli.commands.costs import add_period, period
from cli.errors import OK, UsageFault

PATH = "/api/v1/ai/analytics/requests"
FORMATS = ("csv", "parquet")
# Until the service sends its next part; it reads a page at a time.
_TIMEOUT_S = 60.0


def run(context: Context) -> int:
    """Write the file; nothing has its name before it is whole."""
    # Imported late: every other command starts without it.
    from pathlib import Path

    args = context.args
    target = Path(args.output)
    wanted = args.format or (target.suffix[1:] if target.suffix[1:] in FORMATS else "csv")
    query = {name: str(value) for name, value in period(context).items()}
    if target.exists() and not target.is_file():
        raise UsageFault(f"--output: {target} is there and is no file; name another one.")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        sink = part.open("xb")
    except OSError as fault:
        said = f"--output: {part.parent} cannot be written to: {fault.strerror}."
        raise UsageFault(said) from fault
    try:
        with sink:
            size = context.client(timeout_s=_TIMEOUT_S).download(PATH, sink, format=wanted, **query)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    context.console.line(f"{target}: {size:,} bytes of {wanted}")
    return OK


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="where to write; replaced if it is there"
    )
    parser.add_argument(
        "--format",
        type=one_of(FORMATS),
        metavar="FORMAT",
        help="csv or parquet (default: by FILE's ending, else csv)",
    )
    add_period(parser)


COMMAND = Command(
    name="export",
    summary="Write the records of a period to a CSV or Parquet file.",
    add_arguments=_arguments,
    run=run,
)

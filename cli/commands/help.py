"""`help`: what there is to type."""

from cli.arguments import Parser, add_global_options, nearest
from cli.commands.base import Command, Context
from cli.errors import OK, UsageFault
from cli.output import Cell, Console

PROG = "ai-orchestra"
_EXIT_CODES = """\
exit codes:
  0    done; the orchestrator is healthy or degraded
  1    the orchestrator is unhealthy, or could not carry the request out
  2    the command or a value is wrong
  3    no orchestrator answers at the address
  4    not allowed: key, rights, budget or rate limit
  130  interrupted with Ctrl-C
"""


def run(context: Context) -> int:
    """Print the overview, every command's help, or one command's."""
    from cli.commands import COMMANDS

    name = context.args.command or context.args.topic
    if name:
        context.console.line(command_named(name).parser(PROG).format_help())
        return OK
    overview(context.console)
    if context.args.all:
        for command in COMMANDS.values():
            context.console.line()
            context.console.line(command.parser(PROG).format_help())
    return OK


def overview(console: Console) -> None:
    """Print what every command does, the options they share and the exit codes."""
    from cli.commands import COMMANDS

    console.line("Talks to a running AI Model Orchestra Controller.\n")
    console.line(f"usage: {PROG} [options] COMMAND ...\n")
    console.line("commands:")
    console.fields([("  " + c.name, Cell(c.summary)) for c in COMMANDS.values()])
    parser = Parser(PROG)
    add_global_options(parser)
    console.line()
    console.line(parser.format_help().partition("\n\n")[2])
    console.line(_EXIT_CODES)
    console.line(f"'{PROG} help --command NAME' tells more of one command, 'help --all' of all.")


def command_named(name: str) -> Command:
    """Return the command, or raise UsageFault with the nearest known name."""
    from cli.commands import COMMANDS

    if name not in COMMANDS:
        raise UsageFault(f"{name!r} is not a command{nearest(name, COMMANDS)}.\nSee '{PROG} help'.")
    return COMMANDS[name]


def _arguments(parser: Parser) -> None:
    parser.add_argument("topic", nargs="?", metavar="NAME", help="the same as --command NAME")
    parser.add_argument("--all", action="store_true", help="the full help of every command")
    parser.add_argument("--command", metavar="NAME", help="the full help of one command")


COMMAND = Command(
    name="help",
    summary="Display command help and usage.",
    add_arguments=_arguments,
    run=run,
)

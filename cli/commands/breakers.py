"""`breakers`: which circuit breakers are open, and closing them by hand."""

from collections.abc import Mapping

from cli.arguments import Parser, one_of
from cli.commands.base import Command, Context, add_json, without_absent
from cli.errors import OK, UsageFault
from cli.output import Cell, Console
from cli.view import count, dig, items, moment, state, text

PATH = "/api/v1/ai/breakers"
_COLUMNS = ("Model", "Endpoint", "State", "Open until", "Openings", "Reason", "Since")


def run(context: Context) -> int:
    """Print a row for every breaker, or reset those named."""
    payload = reset_payload(context)
    if payload is None:
        answer = context.client().get(PATH)
    else:
        answer = context.client().post(f"{PATH}/reset", payload)
    if context.args.json:
        context.console.raw(answer.body)
    elif payload is None:
        show(context.console, answer.document)
    else:
        show_reset(context.console, answer.document)
    return OK


def reset_payload(context: Context) -> dict[str, object] | None:
    """Return whose breakers to reset; None if they are only to be shown."""
    args = context.args
    if args.action is None:
        if args.all:
            raise UsageFault("--all: Belongs to 'breakers reset --all'.")
        return None
    if args.all == (args.target not in (None, "", "@")):
        raise UsageFault("breakers reset: Give MODEL, MODEL@ENDPOINT or @ENDPOINT, or else --all.")
    if args.all:
        return {"all": True}
    # Names of models may hold an @, those of endpoints do not.
    model, at, endpoint = args.target.rpartition("@")
    if not at:
        model, endpoint = endpoint, ""
    return without_absent(model=model or None, endpoint=endpoint or None)


def show(console: Console, document: object) -> None:
    """Print the table of breakers and a line that sums it up."""
    breakers = items(document, "breakers")
    if breakers:
        console.table(_COLUMNS, [_row(one) for one in breakers])
        console.line()
    is_open, total = dig(document, "open"), dig(document, "total")
    console.line(f"{text(is_open)} of {text(total)} breakers open")


def show_reset(console: Console, document: object) -> None:
    """Print what was closed."""
    closed = dig(document, "reset")
    for name in closed if isinstance(closed, list) else ():
        console.line(f"{text(name)} reset")


def _row(one: Mapping[str, object]) -> list[Cell]:
    return [
        Cell(text(one.get("model"))),
        Cell(text(one.get("endpoint"))),
        state(one.get("state")),
        Cell(moment(one.get("open_until"))),
        count(one.get("openings")),
        Cell(text(one.get("reason"))),
        Cell(moment(one.get("since"))),
    ]


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "action", nargs="?", metavar="reset", type=one_of(("reset",)), help="close breakers"
    )
    parser.add_argument(
        "target",
        nargs="?",
        metavar="MODEL[@ENDPOINT]",
        help="a model everywhere, a model at one endpoint, or @ENDPOINT for all models there",
    )
    parser.add_argument("--all", action="store_true", help="reset every one")
    add_json(parser)


COMMAND = Command(
    name="breakers",
    summary="Show circuit breakers, or reset them.",
    add_arguments=_arguments,
    run=run,
)

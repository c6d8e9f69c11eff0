"""`limits`: how much of each key's and tenant's limits is used."""

from collections.abc import Mapping

from cli.commands.base import Command, Context, add_json
from cli.errors import OK
from cli.output import Cell, Console
from cli.view import count, dig, items, moment, text

PATH = "/api/v1/ai/limits"
_COLUMNS = ("Whose", "Limit", "Most", "Used", "Leased", "Left", "Full at")


def run(context: Context) -> int:
    """Print a row for every limit."""
    answer = context.client().get(PATH)
    if context.args.json:
        context.console.raw(answer.body)
    else:
        show(context.console, answer.document)
    return OK


def show(console: Console, document: object) -> None:
    """Print the table of limits and a line that sums it up."""
    limits = items(document, "limits")
    if limits:
        console.table(_COLUMNS, [_row(one) for one in limits])
        console.line()
    used_up, total = dig(document, "exhausted"), dig(document, "total")
    console.line(f"{text(used_up)} of {text(total)} limits used up")


def _row(one: Mapping[str, object]) -> list[Cell]:
    left, leased = one.get("left"), one.get("leased")
    used_up = left == 0 and leased == 0
    return [
        Cell(f"{text(one.get('of'))} {text(one.get('owner'))}"),
        Cell(text(one.get("name")).replace("_", " ")),
        count(one.get("most")),
        count(one.get("used")),
        count(leased),
        Cell(text(left), colour="red", right=True) if used_up else count(left),
        Cell(moment(one.get("full_at"))),
    ]


COMMAND = Command(
    name="limits",
    summary="Show how much of each key's and tenant's limits is used.",
    add_arguments=add_json,
    run=run,
)

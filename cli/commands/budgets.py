"""`budgets`: what is spent, held and left of every budget, and where it is going."""

from collections.abc import Mapping

from cli.commands.base import Command, Context, add_json
from cli.errors import OK
from cli.output import ABSENT, Cell, Console
from cli.view import dig, items, moment, number, share, text

PATH = "/api/v1/ai/budgets"
_COLUMNS = (
    "Budget",
    "For",
    "Period",
    "Limit $",
    "Spent $",
    "Used",
    "Held $",
    "Forecast $",
    "Until",
)


def run(context: Context) -> int:
    """Print a row for every budget."""
    answer = context.client().get(PATH)
    if context.args.json:
        context.console.raw(answer.body)
    else:
        show(context.console, answer.document)
    return OK


def show(console: Console, document: object) -> None:
    """Print the table of budgets, and how many are used up."""
    budgets = items(document, "budgets")
    if budgets:
        console.table(_COLUMNS, [_row(one) for one in budgets])
        console.line()
    used_up = sum(one.get("exhausted") is True for one in budgets)
    console.line(f"{used_up} of {text(dig(document, 'total'))} budgets used up")


def _row(one: Mapping[str, object]) -> list[Cell]:
    spent, limit = one.get("spent_usd"), one.get("limit_usd")
    used = share(spent, limit)
    colour = "red" if one.get("exhausted") is True else ""
    return [
        Cell(text(one.get("name"))),
        Cell(" ".join(text(w) for w in (one.get("scope"), one.get("subject")) if w)),
        Cell(text(one.get("period"))),
        _dollars(limit),
        _dollars(spent),
        Cell(used.text, colour, right=True),
        _dollars(one.get("held_usd")),
        _dollars(one.get("forecast_usd")),
        Cell(moment(one.get("window_end"))),
    ]


def _dollars(value: object) -> Cell:
    """Return an amount with two digits, or as many as a small one needs."""
    amount = number(value)
    if amount is None:
        return Cell(ABSENT, right=True)
    digits = 2 if amount == 0 or amount >= 1 else 6
    return Cell(f"{amount:,.{digits}f}", right=True)


COMMAND = Command(
    name="budgets",
    summary="Show what is spent and left of every budget.",
    add_arguments=add_json,
    run=run,
    epilog="Also, in the checkout's .venv: budgets leases, budgets release HOLDER [--force].",
    local_words=("leases", "release"),
)

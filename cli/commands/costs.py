"""`costs` and `savings`: what was spent in a period, and against what that was a saving."""

from collections.abc import Callable, Mapping

from cli.arguments import Parser, one_of
from cli.commands.base import Command, Context, add_json, without_absent
from cli.errors import OK
from cli.output import ABSENT, Cell, Console
from cli.view import count, dig, figure, items, moment, number, text

PATH = "/api/v1/ai/analytics/"
GROUPS = ("tenant", "model", "task", "day")
_COSTS = ("Requests", "Errors", "Prompt tokens", "Cached", "Answer tokens", "Cost USD", "No price")
_SAVINGS = ("Compared", "Cost USD", "Baseline USD", "Saved USD", "Saved", "Measured USD",
            "Estimated USD", "Not compared")  # fmt: skip

Row = Callable[[Mapping[str, object]], list[Cell]]


def run_costs(context: Context) -> int:
    """Print what each group cost."""
    return _run(context, "costs", _COSTS, _cost)


def run_savings(context: Context) -> int:
    """Print what each group saved."""
    return _run(context, "savings", _SAVINGS, _saving)


def _run(context: Context, report: str, headers: tuple[str, ...], row: Row) -> int:
    args = context.args
    asked = without_absent(groupBy=args.by, tenant=args.tenant, model=args.model, task=args.task)
    asked |= period(context)
    answer = context.client().get(PATH + report, **{k: str(v) for k, v in asked.items()})
    if args.json:
        context.console.raw(answer.body)
    else:
        _show(context.console, answer.document, headers, row)
    return OK


def _show(console: Console, document: object, headers: tuple[str, ...], row: Row) -> None:
    groups = items(document, "groups")
    total = dig(document, "total")
    lines = [[Cell(text(one.get("group"))), *row(one)] for one in groups]
    if isinstance(total, Mapping):
        lines.append([Cell("Total", "bold"), *row(total)])
    console.table([text(dig(document, "groupBy")), *headers], lines)
    console.line()
    console.line(f"From {moment(dig(document, 'from'))} to {moment(dig(document, 'to'))} UTC")
    if more := number(dig(document, "moreGroups")):
        console.line(f"{more:.0f} less costly groups are not shown; the total has them.")
    if isinstance(total, Mapping) and number(total.get("simulatedCount")):
        console.line("Some answers came from the simulator.", "yellow")


def _cost(one: Mapping[str, object]) -> list[Cell]:
    counts = ("requestCount", "errorCount", "promptTokens", "cachedTokens", "completionTokens")
    return [
        *(count(one.get(name)) for name in counts),
        figure(one.get("costUsd"), digits=6),
        count(one.get("costUnknownCount")),
    ]


def _saving(one: Mapping[str, object]) -> list[Cell]:
    saved = number(one.get("savedUsd")) or 0.0
    colour = "green" if saved > 0 else "red" if saved < 0 else ""
    percent = number(one.get("savedPercent"))
    return [
        count(one.get("requestCount")),
        figure(one.get("costUsd"), digits=6),
        figure(one.get("baselineUsd"), digits=6),
        figure(one.get("savedUsd"), digits=6),
        Cell(ABSENT if percent is None else f"{percent:.1f} %", colour, right=True),
        figure(dig(one, "measured", "savedUsd"), digits=6),
        figure(dig(one, "estimated", "savedUsd"), digits=6),
        count(one.get("notComparedCount")),
    ]


def period(context: Context) -> dict[str, object]:
    """Return the period asked for, as the service is asked for it."""
    return {
        name: value
        for name, value in (("from", context.args.start), ("to", context.args.to))
        if value is not None
    }


def add_period(parser: Parser) -> None:
    """Add --from and --to."""
    parser.add_argument(
        "--from", dest="start", metavar="TIME", help="date or time (UTC); default: 30 days before"
    )
    parser.add_argument("--to", metavar="TIME", help="date or time, not included; default: now")


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "--by", type=one_of(GROUPS), metavar="GROUP", help="tenant, model (default), task or day"
    )
    add_period(parser)
    parser.add_argument("--tenant", metavar="NAME", help="only this tenant's requests")
    parser.add_argument("--model", metavar="NAME", help="only this model's answers")
    parser.add_argument("--task", metavar="TYPE", help="only this task type")
    add_json(parser)


COSTS = Command(
    name="costs",
    summary="Show what requests cost, by tenant, model, task or day.",
    add_arguments=_arguments,
    run=run_costs,
)
SAVINGS = Command(
    name="savings",
    summary="Show what was saved against the baseline.",
    add_arguments=_arguments,
    run=run_savings,
)

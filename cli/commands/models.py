"""`models`: the models, whether they can be used, and how they have done."""

from collections.abc import Mapping

from cli.arguments import Parser
from cli.commands.base import Command, Context, add_json
from cli.errors import OK
from cli.output import ABSENT, Cell, Console
from cli.view import count, dig, figure, items, moment, share, state, text

PATH = "/api/v1/ai/models/status"


def run(context: Context) -> int:
    """Print a row for every model."""
    include = "true" if context.args.include_metrics else "false"
    answer = context.client().get(PATH, includeMetrics=include)
    if context.args.json:
        context.console.raw(answer.body)
        return OK
    show(context.console, answer.document, metrics=context.args.include_metrics)
    return OK


def show(console: Console, document: object, *, metrics: bool) -> None:
    """Print the table of models and a line that sums it up."""
    models = items(document, "models")
    headers = [*_STATE, *(_METRICS if metrics else ())]
    if models:
        console.table(headers, [_row(model, metrics=metrics) for model in models])
        console.line()
    console.line(summary(document))


def summary(document: object) -> str:
    """Return how many models there are, and how many are healthy."""
    healthy, total = dig(document, "healthyModels"), dig(document, "totalModels")
    return f"{text(healthy)} of {text(total)} models healthy"


_STATE = ("Model", "State", "Breaker", "Loaded", "Tier", "Speed", "Endpoints")
_METRICS = ("Requests", "Success", "Errors", "Avg ms", "Load", "Memory MB", "Last used")


def _row(model: Mapping[str, object], *, metrics: bool) -> list[Cell]:
    row = [
        Cell(text(model.get("model_name"))),
        _state(model),
        state(model.get("breaker")),
        Cell(text(model.get("loaded"))),
        Cell(text(model.get("qualityTier"))),
        Cell(text(model.get("speed"))),
        Cell(", ".join(text(e.get("endpoint")) for e in items(model, "endpoints")) or ABSENT),
    ]
    if not metrics:
        return row
    return [
        *row,
        count(model.get("request_count")),
        share(model.get("success_count"), model.get("request_count")),
        count(model.get("error_count")),
        figure(model.get("avg_response_time_ms")),
        figure(model.get("current_load"), digits=2),
        figure(model.get("memory_usage_mb")),
        Cell(moment(model.get("last_used"))),
    ]


def _state(model: Mapping[str, object]) -> Cell:
    if "status" in model:
        return state(model["status"])
    return state("healthy" if model.get("healthy") else "unavailable")


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "--include-metrics", action="store_true", help="include performance metrics"
    )
    add_json(parser)


COMMAND = Command(
    name="models",
    summary="List available models with status.",
    add_arguments=_arguments,
    run=run,
)

"""`select`: which model would answer, and why."""

from collections.abc import Mapping

from cli.arguments import (
    COMPLEXITIES,
    PRIORITIES,
    QUALITIES,
    TASK_TYPES,
    Parser,
    amount,
    one_of,
    whole,
)
from cli.commands.base import Command, Context, add_json, without_absent
from cli.errors import OK
from cli.output import ABSENT, Cell, Console
from cli.view import caveats, dig, figure, items, pressure, text, words

PATH = "/api/v1/ai/select-model"

_PARTS = ("total", "quality", "cost", "latency", "memory", "success")
_COLUMNS = ("Model", "Endpoint", *_PARTS, "Expected ms", "Rejected")


def run(context: Context) -> int:
    """Print the selected model with its rationale and the metrics it was chosen by."""
    answer = context.client().post(PATH, payload(context))
    if context.args.json:
        context.console.raw(answer.body)
    else:
        show(context.console, answer.document)
    return OK


def payload(context: Context) -> dict[str, object]:
    """Return the request body; what was not given is left to the service."""
    args = context.args
    requirements = without_absent(
        complexity=args.complexity,
        priority=args.priority,
        maxTokens=args.max_tokens,
        costLimit=args.cost_limit,
        qualityRequirement=args.quality,
    )
    return {"taskType": args.task_type} | without_absent(
        requirements=requirements or None, explain=args.explain or None
    )


def show(console: Console, document: object) -> None:
    """Print the choice, its model, the machine, and the candidates where they were explained."""
    console.fields(
        [
            ("Selected model", Cell(text(dig(document, "selectedModel")), "bold")),
            ("At", text(dig(document, "endpoint"))),
            ("Because", text(dig(document, "reason"))),
            ("Task type", text(dig(document, "taskType"))),
            ("Fallback used", text(dig(document, "fallbackUsed"))),
            *caveats(document),
            ("Alternatives", words(dig(document, "alternatives"))),
            ("Capabilities", words(dig(document, "modelInfo", "capabilities"))),
            ("Speed", text(dig(document, "modelInfo", "speed"))),
            ("Quality tier", text(dig(document, "modelInfo", "quality_tier"))),
            ("Memory pressure", pressure(dig(document, "systemMetrics", "memoryPressure"))),
            ("Memory available", figure(dig(document, "systemMetrics", "availableMemoryGb"), "GB")),
            ("CPU", figure(dig(document, "systemMetrics", "cpuUsage"), "%")),
            ("Request", text(dig(document, "requestId"))),
        ]
    )
    considered = items(document, "explanation")
    if considered:
        console.line()
        console.table(_COLUMNS, [_considered(one) for one in considered])


def _considered(one: Mapping[str, object]) -> list[Cell]:
    reason, detail = text(one.get("rejected")), text(one.get("detail"))
    rejected = Cell("") if reason == ABSENT else Cell(f"{reason}: {detail}", "yellow")
    return [
        Cell(text(one.get("model"))),
        Cell(text(one.get("endpoint"))),
        *(figure(dig(one, "scores", part), digits=2) for part in _PARTS),
        figure(dig(one, "scores", "expectedMs"), digits=0),
        rejected,
    ]


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "task_type", metavar="TASK_TYPE", type=one_of(TASK_TYPES), help=", ".join(TASK_TYPES)
    )
    parser.add_argument(
        "--complexity", type=one_of(COMPLEXITIES), metavar="LEVEL", help=", ".join(COMPLEXITIES)
    )
    parser.add_argument(
        "--priority", type=one_of(PRIORITIES), metavar="LEVEL", help=", ".join(PRIORITIES)
    )
    parser.add_argument(
        "--cost-limit",
        type=amount(0),
        metavar="USD",
        help="most this request may cost, in US dollars",
    )
    parser.add_argument("--max-tokens", type=whole(1), metavar="N", help="tokens to be generated")
    parser.add_argument(
        "--quality", type=one_of(QUALITIES), metavar="TIER", help=", ".join(QUALITIES)
    )
    parser.add_argument(
        "--explain", action="store_true", help="every candidate with its scores or its rejection"
    )
    add_json(parser)


COMMAND = Command(
    name="select",
    summary="Select optimal model for given task.",
    add_arguments=_arguments,
    run=run,
)

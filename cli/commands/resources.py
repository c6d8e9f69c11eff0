"""`resources`: memory, processor and swap of the host, now and over the last hours."""

from collections.abc import Mapping, Sequence

from cli.arguments import Parser, whole
from cli.commands.base import Command, Context, add_json
from cli.errors import OK
from cli.output import ABSENT, Cell, Console
from cli.view import count, dig, figure, items, moment, number, pressure, share

PATH = "/api/v1/ai/resources/metrics"
# A screenful: more samples than this are averaged into as many rows.
_ROWS = 12

_COLUMNS = (
    ("Available GB", "memory_available_gb", 2),
    ("Free GB", "memory_free_gb", 2),
    ("Total GB", "memory_total_gb", 2),
    ("CPU %", "cpu_usage_percent", 1),
    ("Swap %", "swap_used_percent", 1),
)


def run(context: Context) -> int:
    """Print the current sample and, with --hours, how it came to be."""
    hours = context.args.hours
    query = {"hours": str(hours), "includeHistory": "true"} if hours else {}
    answer = context.client().get(PATH, **query)
    if context.args.json:
        context.console.raw(answer.body)
        return OK
    show(context.console, answer.document)
    show_hosts(context.console, items(answer.document, "hosts"))
    if hours:
        show_history(context.console, items(answer.document, "history"), hours)
        show_requests(context.console, items(answer.document, "requests"))
    show_admission(context.console, items(answer.document, "admission"))
    show_overruns(context.console, answer.document)
    return OK


def show(console: Console, document: object) -> None:
    """Print the current figures."""
    rows: list[tuple[str, Cell | str]] = [
        ("Memory pressure", pressure(dig(document, "memoryPressure")))
    ]
    rows += [(label, figure(dig(document, "current", key), "", d)) for label, key, d in _COLUMNS]
    console.fields([*rows, ("At", moment(dig(document, "current", "recorded_at")))])


def show_hosts(console: Console, hosts: Sequence[Mapping[str, object]]) -> None:
    """Print a row for each machine, where others than the service's own report."""
    if len(hosts) < 2:
        return
    console.line()
    console.table(
        ["Host", "Pressure", "Available GB", "Swap %", "GPU free GB", "Age s"],
        [_host(host) for host in hosts],
    )


def _host(host: Mapping[str, object]) -> list[Cell]:
    gpus = items(host, "gpus")
    free = sum(number(gpu.get("freeGb")) or 0.0 for gpu in gpus) if gpus else None
    return [
        Cell(str(host.get("name"))),
        pressure(host.get("pressure")) if host.get("known") else Cell("unknown", right=True),
        figure(host.get("memoryAvailableGb"), "", 2),
        figure(host.get("swapUsedPercent"), "", 1),
        figure(free, "", 2),
        figure(host.get("ageSeconds"), "", 1),
    ]


def show_admission(console: Console, queues: Sequence[Mapping[str, object]]) -> None:
    """Print who runs and waits at each endpoint; nothing where no worker tells."""
    if not queues:
        return
    console.line()
    console.table(
        ["Endpoint", "Running", "Waiting", "Limit", "Expected wait"],
        [
            [
                Cell(str(queue.get("endpoint"))),
                *(figure(queue.get(key), "", 0) for key in ("running", "waiting", "limit")),
                figure(queue.get("expectedWaitMs"), "ms", digits=0),
            ]
            for queue in queues
        ],
    )


def show_overruns(console: Console, document: object) -> None:
    """Print what cost more than budgets held for it; nothing where nothing did."""
    told = number(dig(document, "overruns", "count"))
    if told:
        beyond = number(dig(document, "overruns", "overrunUsd")) or 0.0
        console.line()
        console.line(f"{told:,.0f} answers beyond what was held, by ${beyond:,.6f}", "yellow")


def show_history(console: Console, samples: Sequence[Mapping[str, object]], hours: int) -> None:
    """Print the samples, oldest first; many are averaged into a screenful of rows."""
    console.line()
    if not samples:
        console.line(f"No samples in the last {hours} h.")
        return
    ordered = sorted(samples, key=lambda sample: str(sample.get("recorded_at")))
    groups = _groups(ordered)
    console.table(["From", *(label for label, _, _ in _COLUMNS)], [_row(g) for g in groups])
    console.line()
    averaged = f", averaged into {len(groups)} rows" if len(groups) < len(ordered) else ""
    console.line(f"{len(ordered)} samples in the last {hours} h{averaged}.")


def show_requests(console: Console, spans: Sequence[Mapping[str, object]]) -> None:
    """Print what was asked of the models in the same hours, in sum."""

    def total(key: str) -> float:
        return sum(number(span.get(key)) or 0.0 for span in spans)

    console.line()
    console.fields(
        [
            ("Requests", count(total("request_count"))),
            ("Success", share(total("success_count"), total("request_count"))),
            ("Fallbacks", count(total("fallback_count"))),
            ("Tokens", count(total("prompt_tokens") + total("completion_tokens"))),
            ("Cost", figure(total("cost_usd"), "USD", digits=4)),
        ]
    )


def _groups(samples: Sequence[Mapping[str, object]]) -> list[Sequence[Mapping[str, object]]]:
    size = -(-len(samples) // _ROWS)
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def _row(group: Sequence[Mapping[str, object]]) -> list[Cell]:
    cells = [_average(group, key, digits) for _, key, digits in _COLUMNS]
    return [Cell(moment(group[0].get("recorded_at"))), *cells]


def _average(group: Sequence[Mapping[str, object]], key: str, digits: int) -> Cell:
    values = [value for sample in group if (value := number(sample.get(key))) is not None]
    if not values:
        return Cell(ABSENT, right=True)
    return figure(sum(values) / len(values), "", digits)


def _arguments(parser: Parser) -> None:
    parser.add_argument("--hours", type=whole(1), metavar="N", help="hours of history to include")
    add_json(parser)


COMMAND = Command(
    name="resources",
    summary="Show system resource usage and pressure.",
    add_arguments=_arguments,
    run=run,
)

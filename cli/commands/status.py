"""`status`: one look at the whole: health, and the models where they are asked for."""

from typing import TYPE_CHECKING

from cli.arguments import Parser
from cli.commands import health, models
from cli.commands.base import Command, Context, add_json
from cli.errors import OK, Refused
from cli.output import Cell
from cli.view import dig, figure, pressure, state, text

if TYPE_CHECKING:
    from cli.client import Answer, Client


def run(context: Context) -> int:
    """Print the state; exit code 1 when the orchestrator says it is unhealthy."""
    client = context.client()
    report = client.health()
    listing = _listing(client, metrics=context.args.verbose)
    if context.args.json:
        # Two answers, each unchanged, as the members of one object.
        context.console.raw(
            b'{"health":' + report.body.strip() + b',"models":' + listing.body.strip() + b"}"
        )
    else:
        _show(context, report, client.base.text, listing)
    code = health.exit_code(report.document)
    return listing.exit_code if code == OK and isinstance(listing, Refused) else code


def _listing(client: "Client", *, metrics: bool) -> "Answer | Refused":
    try:
        return client.get(models.PATH, includeMetrics="true" if metrics else "false")
    except Refused as refusal:
        # The health report says why; it must not be lost with the list.
        return refusal


def _show(context: Context, report: "Answer", address: str, listing: "Answer | Refused") -> None:
    args, console = context
    console.fields(_verbose(report, address) if args.verbose else _brief(report))
    console.line()
    if isinstance(listing, Refused):
        console.line(f"The models cannot be listed: {listing}")
    elif args.models:
        models.show(console, listing.document, metrics=args.verbose)
    else:
        console.line(models.summary(listing.document))


def _brief(report: "Answer") -> list[tuple[str, Cell | str]]:
    document = report.document
    services = ", ".join(
        f"{name} {text(dig(document, 'services', name))}" for name in health.SERVICES
    )
    return [
        ("Status", state(dig(document, "status"))),
        ("Services", services),
        ("Memory pressure", pressure(dig(document, "system", "memory_pressure"))),
    ]


def _verbose(report: "Answer", address: str) -> list[tuple[str, Cell | str]]:
    return [
        *health.rows(report.document),
        ("Version", text(dig(report.document, "version"))),
        ("Address", address),
        ("Answered in", figure(report.elapsed_ms, "ms")),
    ]


def _arguments(parser: Parser) -> None:
    add_json(parser)
    parser.add_argument("--verbose", action="store_true", help="every figure of the health report")
    parser.add_argument("--models", action="store_true", help="list the models too")


COMMAND = Command(
    name="status",
    summary="Show orchestration system status and model availability.",
    add_arguments=_arguments,
    run=run,
    epilog="Exit code 0 for healthy and degraded, 1 for unhealthy, 3 when nothing answers.",
)

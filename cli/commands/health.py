"""`health`: the health report, and an exit code to watch it by."""

from collections.abc import Mapping

from cli.arguments import Parser
from cli.commands.base import Command, Context, add_json
from cli.errors import FAILED, OK
from cli.output import Cell
from cli.view import caveats, count, dig, figure, moment, pressure, state, text

SERVICES = ("database", "redis", "ollama")


def run(context: Context) -> int:
    """Print the report; exit code 1 when the orchestrator says it is unhealthy."""
    answer = context.client().health()
    if context.args.json:
        context.console.raw(answer.body)
    else:
        context.console.fields(rows(answer.document))
    return exit_code(answer.document)


def exit_code(document: object) -> int:
    """Return 0 for healthy and degraded (it still answers), 1 for anything else."""
    return OK if dig(document, "status") in ("healthy", "degraded") else FAILED


def rows(document: object) -> list[tuple[str, Cell | str]]:
    """Return the report as labelled values."""
    services: list[tuple[str, Cell | str]] = [
        (name.capitalize(), state(dig(document, "services", name))) for name in SERVICES
    ]
    return [
        ("Status", state(dig(document, "status"))),
        *services,
        ("Memory pressure", pressure(dig(document, "system", "memory_pressure"))),
        ("Memory available", figure(dig(document, "system", "memory_available_gb"), "GB")),
        ("CPU", figure(dig(document, "system", "cpu_usage_percent"), "%")),
        ("Models available", count(dig(document, "system", "available_models"))),
        *_endpoints(document),
        *caveats(document),
        ("At", moment(dig(document, "timestamp"))),
    ]


def _endpoints(document: object) -> list[tuple[str, Cell | str]]:
    endpoints = dig(document, "endpoints")
    if not isinstance(endpoints, Mapping):
        return []
    return [(f"Endpoint {name}", _endpoint(endpoint)) for name, endpoint in endpoints.items()]


def _endpoint(endpoint: object) -> Cell:
    if dig(endpoint, "up") is True:
        return Cell(f"up, version {text(dig(endpoint, 'version'))}", "green")
    return Cell(f"down: {text(dig(endpoint, 'error'))}", "red")


def _arguments(parser: Parser) -> None:
    add_json(parser)


COMMAND = Command(
    name="health",
    summary="Check orchestrator system health.",
    add_arguments=_arguments,
    run=run,
    epilog="Exit code 0 for healthy and degraded, 1 for unhealthy, 3 when nothing answers.",
)

"""Every command, in the order `help` lists them."""

from cli.commands import (
    breakers,
    budgets,
    costs,
    export,
    health,
    help,
    limits,
    local,
    models,
    resources,
    route,
    select,
    status,
    version,
)
from cli.commands.base import Command

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        status.COMMAND,
        select.COMMAND,
        route.COMMAND,
        models.COMMAND,
        breakers.COMMAND,
        limits.COMMAND,
        budgets.COMMAND,
        resources.COMMAND,
        costs.COSTS,
        costs.SAVINGS,
        export.COMMAND,
        health.COMMAND,
        local.UP,
        local.DOWN,
        local.AGENT,
        local.POLICY,
        local.TENANTS,
        local.KEYS,
        local.SIMULATE,
        help.COMMAND,
        version.COMMAND,
    )
}

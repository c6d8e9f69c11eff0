"""What `manage.py ai-orchestra` runs itself: the service, the simulator, the
policy file, API keys and leases.

Only this package of the command line imports apps, each where it is used: the script
`cli/ai-orchestra` never comes here.
"""

from collections.abc import Callable, Sequence


def _up(argv: Sequence[str]) -> int:
    from orchestra_site import supervisor

    return supervisor.main(argv)


def _down(argv: Sequence[str]) -> int:
    from cli.management.down import main

    return main(argv)


def _simulate(argv: Sequence[str]) -> int:
    from routing.simulator import __main__ as simulator

    return simulator.main(argv)


def _agent(argv: Sequence[str]) -> int:
    from telemetry import agent

    return agent.main(argv)


def _policy(argv: Sequence[str]) -> int:
    from cli.management.policy import main

    return main(argv)


def _keys(argv: Sequence[str]) -> int:
    from cli.management.keys import main

    return main(argv)


def _tenants(argv: Sequence[str]) -> int:
    from cli.management.keys import tenants

    return tenants(argv)


def _leases(argv: Sequence[str]) -> int:
    from cli.management.leases import main

    return main(argv)


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "up": _up,
    "down": _down,
    "simulate": _simulate,
    "agent": _agent,
    "policy": _policy,
    "keys": _keys,
    "tenants": _tenants,
    "budgets": _leases,
}


def run_local(command: str, argv: Sequence[str]) -> int:
    """Run a command that needs no running service; return its exit code."""
    return _COMMANDS[command](argv)

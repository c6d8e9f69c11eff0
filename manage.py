#!/usr/bin/env python
"""Django's command line, with one clear sentence instead of a traceback for bad settings."""

import os
import sys


def main(argv: list[str]) -> int:
    from orchestra_site import environ
    from orchestra_site.errors import OperatorError

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestra_site.settings")
    try:
        environ.read()
        return _run(argv)
    except (environ.InvalidEnvironment, OperatorError) as exc:
        print(exc, file=sys.stderr)  # noqa: T201
        return 2


def _run(argv: list[str]) -> int:
    if argv[1:3] == ["ai-orchestra", "up"]:
        # The supervisor needs no Django, and starts its children a second sooner without it.
        from orchestra_site import supervisor

        return supervisor.main(argv[3:])
    if argv[1:3] == ["ai-orchestra", "agent"]:
        from telemetry import agent

        return agent.main(argv[3:])
    from django.core.management import execute_from_command_line

    execute_from_command_line(argv)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

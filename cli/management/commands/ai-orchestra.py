"""`manage.py ai-orchestra …`: the words of the script, and those that need Django."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from cli.main import main
from cli.management.local import run_local


class Command(BaseCommand):
    """Passes its arguments on as they are: `cli.main` reads them, with its own exit codes."""

    help = "Talk to the orchestrator, start it, or handle its policy; the same as cli/ai-orchestra."
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        sys.exit(main(argv[2:], run_local))

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(main([str(argument) for argument in args], run_local))

    def print_help(self, prog_name: str, subcommand: str) -> None:
        main(["help"])

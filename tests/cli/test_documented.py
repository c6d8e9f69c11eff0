"""docs/cli.md names every command and every flag; so does `help`."""

import re

import pytest

from cli.commands import COMMANDS
from tests.cli.conftest import ROOT

DOCS = (ROOT / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_is_documented(name: str) -> None:
    assert f"### {name}" in DOCS or f"`{name}" in DOCS


@pytest.mark.parametrize("name", COMMANDS)
def test_its_flags_are_documented(name: str) -> None:
    flags = COMMANDS[name].parser("ai-orchestra").flags()
    missing = [flag for flag in flags if not re.search(flag + r"[ `\]]", DOCS)]
    assert missing == []


def test_every_required_flag_exists() -> None:
    required = {
        "status": {"--json", "--verbose", "--models"},
        "help": {"--all", "--command"},
        "version": {"--json"},
        "select": {"--complexity", "--priority", "--cost-limit", "--json"},
        "route": {"--max-tokens", "--temperature", "--retry-attempts", "--json"},
        "breakers": {"--json", "--all"},
        "models": {"--include-metrics", "--json"},
        "resources": {"--hours", "--json"},
        "health": {"--json"},
        "costs": {"--by", "--from", "--to", "--json"},
        "savings": {"--by", "--from", "--to", "--json"},
    }
    for name, flags in required.items():
        assert flags <= set(COMMANDS[name].parser("ai-orchestra").flags())

"""The command line against the whole running service."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Result, run_script
from tests.service import LiveService


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("health", {"status", "timestamp", "services", "system", "version"}),
        ("models --include-metrics", {"models", "systemHealth", "totalModels", "healthyModels"}),
        ("resources --hours 1", {"current", "history", "requests", "memoryPressure"}),
        ("select code --complexity simple --priority low", {"selectedModel", "requestId"}),
        ("route completion Hello --max-tokens 5 --temperature 0", {"response", "metrics"}),
        ("breakers", {"breakers", "total", "open"}),
        ("breakers reset --all", {"reset"}),
        ("limits", {"limits", "total", "exhausted"}),
        ("status", {"health", "models"}),
        ("version", {"cli", "service", "api", "url"}),
    ],
)
def test_every_command_gets_its_answer(
    live_service: LiveService, command: str, keys: set[str]
) -> None:
    result = run_script(*command.split(), "--json", ORCHESTRA_URL=live_service.url)
    assert (result.code, result.err) == (0, "")
    assert json.loads(result.out).keys() >= keys
    readable = run_script(*command.split(), ORCHESTRA_URL=live_service.url)
    assert (readable.code, readable.err) == (0, "")


def test_a_value_the_service_refuses_is_named_as_it_was_typed(live_service: LiveService) -> None:
    result = run_script("select", "code", "--max-tokens", "9" * 12, ORCHESTRA_URL=live_service.url)
    assert (result.code, result.out) == (2, "")
    assert "  --max-tokens: " in result.err


def policy(live: LiveService, *arguments: str, stdin: str = "") -> Result:
    home = str(live.home.root)
    return run_script("policy", *arguments, stdin=stdin.encode(), ORCHESTRA_HOME=home)


def test_an_exported_policy_changes_nothing(live_service: LiveService, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    exported = policy(live_service, "export", str(file))
    assert (exported.code, exported.out, exported.err) == (0, "", "")
    assert file.read_text() == policy(live_service, "export").out
    assert list(tmp_path.iterdir()) == [file]
    for action in ("check", "apply"):
        result = policy(live_service, action, str(file))
        assert (result.code, result.err) == (0, "")
        assert "Nothing to change" in result.out


def test_a_wrong_policy_is_refused_with_its_path(live_service: LiveService) -> None:
    wrong = "models:\n  - {name: a, capabilities: [code], qualty_tier: good}\n"
    for action in ("check", "apply"):
        result = policy(live_service, action, "-", stdin=wrong)
        assert result.code == 2
        assert "models[0].qualty_tier" in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("aply", "x"), "did you mean 'apply'?"),
        (("check",), "check needs a FILE, or - for standard input"),
        (("check", "/nowhere.yaml"), "/nowhere.yaml cannot be read: No such file or directory."),
    ],
)
def test_policy_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run_script("policy", *arguments, ORCHESTRA_HOME=str(tmp_path))
    assert (result.code, result.out) == (2, "")
    assert said in result.err


def test_a_database_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    result = run_script("policy", "export", ORCHESTRA_HOME=str(tmp_path))
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("ai-orchestra: The database does not answer: start the service")
    assert result.err.count("\n") == 1

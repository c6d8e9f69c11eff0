""".vrooli/service.json says what is so: names, ports, resources, and commands that exist."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.scenario.declarative import read

ROOT = Path(__file__).resolve().parents[2]
SERVICE: dict[str, Any] = json.loads((ROOT / ".vrooli" / "service.json").read_text())
SCENARIO = read(ROOT / "scenario-test.yaml")
PHASES = ("setup", "develop", "test", "stop")
STEPS = [step for phase in PHASES for step in SERVICE["lifecycle"][phase]["steps"]]


def test_names_and_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    service = SERVICE["service"]
    assert service["name"] == project["name"] == SCENARIO.scenario
    assert service["version"] == SERVICE["version"] == project["version"]
    assert service["parent"] == "vrooli"
    assert SERVICE["lifecycle"]["version"] == "2.0.0"


def test_the_port_comes_from_the_variable_the_service_reads() -> None:
    api = SERVICE["ports"]["api"]
    low, high = map(int, api["range"].split("-"))
    assert api["env_var"] == "API_PORT"
    assert 1024 <= low < high <= 65535


def test_resources_are_those_of_the_scenario() -> None:
    resources = SERVICE["dependencies"]["resources"]
    required = {name for name, resource in resources.items() if resource["required"]}
    assert required == set(SCENARIO.resources.required)
    assert set(resources) - required == set(SCENARIO.resources.optional)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["name"])
def test_every_step_can_be_run(step: dict[str, str]) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]*[a-z0-9]", step["name"])
    command, _, argument = step["run"].partition(" ")
    if command == "make":
        subprocess.run(["make", "-n", argument], cwd=ROOT, check=True, capture_output=True)
    elif "/" in command:
        assert os.access(ROOT / command, os.X_OK)
    else:
        assert command == "echo"


def test_health_checks_go_to_declared_endpoints() -> None:
    health = SERVICE["lifecycle"]["health"]
    paths = {
        check["target"].removeprefix("http://localhost:${API_PORT}") for check in health["checks"]
    }
    assert paths <= set(health["endpoints"].values())

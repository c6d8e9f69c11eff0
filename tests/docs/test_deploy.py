"""What deploy/ ships names things that exist: variables, paths, packages, ports."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestra_site import environ
from tests.docs.markdown import ROOT
from tests.docs.test_configuration import Noting

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted(DEPLOY.rglob("*.yaml"))
# Compose gives them to the engines, and puts them into the URLs.
ENGINES = {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
# Django's apps and their command line: what the image runs.
PACKAGES = {"cli", "dashboard", "orchestra_site", "routing", "telemetry"}


def read_variables() -> set[str]:
    variables = Noting()
    environ.read(variables)
    return variables.asked


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_manifests_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_image_copies_every_package_and_nothing_that_is_not_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
        for source in line.split()
    }
    kept = set(re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.M))
    assert copied >= PACKAGES
    assert copied == kept
    assert {source for source in copied if not (ROOT / source).exists()} == set()


def test_compose_sets_variables_that_the_service_reads() -> None:
    services = _yaml("compose.yaml")["services"]
    assert services["orchestra"]["environment"].keys() <= read_variables()
    needed = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert needed <= given <= read_variables() | ENGINES


def test_compose_publishes_on_loopback_only() -> None:
    services = _yaml("compose.yaml")["services"]
    assert environ.is_loopback(services["orchestra"]["environment"]["API_HOST"])
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_stateful_set_sets_variables_that_the_service_reads() -> None:
    (container,) = _yaml("kubernetes/statefulset.yaml")["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert given.keys() <= read_variables()
    assert environ.is_loopback(given["API_HOST"])


def test_the_resources_of_the_kustomization_exist() -> None:
    resources = _yaml("kubernetes/kustomization.yaml")["resources"]
    assert [name for name in resources if not (DEPLOY / "kubernetes" / name).exists()] == []


def test_the_unit_starts_what_exists() -> None:
    unit = (DEPLOY / "systemd" / "ai-orchestra.service").read_text()
    assert "ExecStart=/opt/ai-orchestra/.venv/bin/python manage.py ai-orchestra up\n" in unit
    named = set(re.findall(r"^Environment=(\w+)=", unit, re.MULTILINE))
    assert named - {"PYTHONDONTWRITEBYTECODE"} <= read_variables()
    documents = re.findall(r"file:///opt/ai-orchestra/(\S+)", unit)
    assert [name for name in documents if not (ROOT / name).exists()] == []


def _yaml(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())

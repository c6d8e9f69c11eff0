"""The command line as its users run it, and something for it to talk to."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.cli import bodies
from tests.cli.service import Service, json_reply, running_service
from tests.environment import outside

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cli" / "ai-orchestra"


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


class Run(Protocol):
    """Runs the script and waits for its end."""

    def __call__(self, *arguments: str, stdin: bytes = b"", **environ: str) -> Result: ...


def run_script(*arguments: str, stdin: bytes = b"", **environ: str) -> Result:
    """Run cli/ai-orchestra in an environment without any setting of ours but `environ`."""
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        input=stdin,
        capture_output=True,
        env=outside() | environ,
        timeout=30,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that answers every endpoint in the shape of its contract."""
    with running_service() as service:
        service.replies = {
            "/api/v1/health": json_reply(bodies.HEALTH),
            "/api/v1/ai/models/status": json_reply(bodies.MODELS),
            "/api/v1/ai/budgets": json_reply(bodies.BUDGETS),
            "/api/v1/ai/breakers": json_reply(bodies.BREAKERS),
            "/api/v1/ai/breakers/reset": json_reply({"reset": ["codellama:7b@ollama"]}),
            "/api/v1/ai/limits": json_reply(bodies.LIMITS),
            "/api/v1/ai/resources/metrics": json_reply(bodies.RESOURCES),
            "/api/v1/ai/analytics/costs": json_reply(bodies.COSTS),
            "/api/v1/ai/analytics/savings": json_reply(bodies.SAVINGS),
            "/api/v1/ai/select-model": json_reply(bodies.SELECTION),
            "/api/v1/ai/route-request": json_reply(bodies.ROUTED),
        }
        yield service


@pytest.fixture
def run(service: Service) -> Run:
    """Runs the script against `service`."""

    def run_against_service(*arguments: str, stdin: bytes = b"", **environ: str) -> Result:
        return run_script(*arguments, stdin=stdin, **{"ORCHESTRA_URL": service.url} | environ)

    return run_against_service

"""The whole service for a rig: its processes, its policy, its database, its doors."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from orchestra_site.environ import CHECKOUT
from tests import environment, service
from tests.chaos import client

POLICY_LIMIT_S = 40.0
ROUTABLE_LIMIT_S = 30.0
SETTLE_LIMIT_S = 60.0
# Nothing answers there: the engines of a rig are named in its policy.
NO_OLLAMA = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class House:
    """A running service and what surrounds it."""

    live: service.LiveService
    settings: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.live.url

    @property
    def database_url(self) -> str:
        return str(self._engines()["database_url"])

    @property
    def redis_url(self) -> str:
        return str(self._engines()["redis_url"])

    def apply(self, policy: dict[str, Any], path: Path) -> None:
        """Apply a policy file (JSON is YAML); fail with what is wrong with it."""
        path.write_text(json.dumps(policy))
        self.manage("policy", "apply", str(path))

    def manage(self, *words: str) -> str:
        """Run an `ai-orchestra` command beside the service and return what it printed."""
        env = environment.outside() | dict(self.settings)
        env["ORCHESTRA_HOME"] = str(self.live.home.root)
        done = subprocess.run(
            [sys.executable, "manage.py", "ai-orchestra", *words],
            env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=POLICY_LIMIT_S,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    async def wait_routable(self, bodies: Sequence[dict[str, Any]]) -> None:
        """Return when a model can be selected for each of the bodies."""
        deadline = time.monotonic() + ROUTABLE_LIMIT_S
        for body in bodies:
            while (seen := await self.select(body)).status != 200:
                assert time.monotonic() < deadline, f"not routable: {seen.body.decode()}"
                await asyncio.sleep(0.1)

    async def select(self, body: dict[str, Any]) -> client.Exchange:
        return await client.post(f"{self.url}/api/v1/ai/select-model", body, 5.0)

    async def health(self) -> str:
        """Return the service's own verdict; empty where it does not answer."""
        return str((await self.ask_health()).get("status", ""))

    async def ask_health(self) -> dict[str, Any]:
        """Return all that the service says of itself; empty where it does not answer."""
        found = (await client.get(f"{self.url}/api/v1/health", 5.0)).json()
        return found if isinstance(found, dict) else {}

    def recorded(self) -> dict[str, int]:
        """Return how often each request id stands in the table of requests."""
        query = "SELECT request_id, count(*) FROM telemetry_orchestratorrequest GROUP BY 1"
        with psycopg.connect(self.database_url) as connection:
            return {str(id_): int(count) for id_, count in connection.execute(query)}

    def failed_attempts(self) -> int:
        """Return how many calls to models failed, by the service's own books."""
        query = "SELECT coalesce(sum(failed_attempts), 0) FROM telemetry_modelmetric"
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def settled(self, wanted: set[str]) -> dict[str, int]:
        """Return the records once every wanted one is there, or after the limit as they are."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                found = self.recorded()
                if wanted <= found.keys() or time.monotonic() > deadline:
                    return found
            assert time.monotonic() < deadline + 10, "the database does not answer"
            time.sleep(0.5)

    def _engines(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.live.home.run / "engines.json").read_text())
        return found


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield a directory of the rig's own, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="orchestra-rig-"))
    # The embedded PostgreSQL runs as a user of its own when this is root.
    os.chmod(path, 0o755)  # noqa: S103
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def house(home: Path, **settings: str) -> Iterator[House]:
    """Run the service until the block ends; then it must stop well and leave nothing behind."""
    told = {"WEB_WORKERS": "2", "OLLAMA_URL": NO_OLLAMA} | settings
    with service.running(home, simulate=False, **told) as live:
        yield House(live, told)

"""Real processes, a PostgreSQL and a Redis of their own, and everything that can happen to them.

Eight workers with two hundred callers spend budgets with room for 1 to 50 requests, while workers
and the conductor are killed, Redis is flushed and PostgreSQL restarted. `ORCHESTRA_STORM_ROUNDS`
makes it longer.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import redis

from orchestra_site.embedded.postgres import Postgres
from orchestra_site.embedded.redis import Redis
from orchestra_site.home import Home
from tests import environment
from tests.fixtures_engines import SimulatedHost
from tests.fixtures_site import CARELESS

ROOT = Path(__file__).parents[2]
WORKERS, CALLERS_EACH, REFUSALS = 8, 25, 3
PRICE_NUSD = 1000
ROUNDS = int(os.environ.get("ORCHESTRA_STORM_ROUNDS", "3"))
START_LIMIT_S = 60.0


@dataclass
class Spender:
    """A worker process, and what it said it had answered."""

    process: subprocess.Popen[bytes]
    told: list[str] = field(default_factory=list)
    reading: threading.Thread | None = None

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(line.decode().strip())

    def begin(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        if self.reading is not None:
            self.reading.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Town:
    """The engines, the conductor and the workers."""

    def __init__(self, root: Path, host: str) -> None:
        self.home, self.host = Home(root), host
        self.home.prepare()
        self.postgres = Postgres(self.home, settings=CARELESS)
        self.redis = Redis(self.home)
        self.spenders: dict[str, Spender] = {}
        self.conductor: subprocess.Popen[bytes] | None = None
        self.answered = 0  # by workers that are gone

    def environment(self, worker: str) -> dict[str, str]:
        return environment.outside() | {
            "DJANGO_SETTINGS_MODULE": "orchestra_site.settings",
            "ORCHESTRA_HOME": str(self.home.root),
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "SECRET_KEY": "for-the-tests-only-" + "0" * 32,
            "ORCHESTRA_WORKER": worker,
        }

    def open(self) -> None:
        self.redis.launch()
        self.postgres.start()
        self.redis.wait_ready()
        self.run("manage.py", "migrate", "-v", "0")
        self.start_conductor()
        for number in range(WORKERS):
            self.start_spender(f"web-{number}")

    def run(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT, env=self.environment("tests"), check=True, timeout=60,
        )  # fmt: skip

    def start_conductor(self) -> None:
        with (self.home.root / "conductor.txt").open("ab") as log:
            self.conductor = subprocess.Popen(
                [sys.executable, "-m", "orchestra_site.conductor"],
                cwd=ROOT, env=self.environment("conductor"), stderr=log,
            )  # fmt: skip

    def kill_conductor(self) -> None:
        if self.conductor is not None:
            self.conductor.kill()
            self.conductor.wait(10)

    def start_spender(self, name: str) -> None:
        with (self.home.root / "spenders.txt").open("ab") as log:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "tests.treasury.spending_process",
                    str(self.home.spool), name, self.host, self.redis.url,
                ],
                cwd=ROOT, env=self.environment(name), stderr=log,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        spender = self.spenders[name] = Spender(process)
        spender.reading = threading.Thread(target=spender.read, daemon=True)
        spender.reading.start()

    def kill_spender(self, name: str) -> None:
        spender = self.spenders.pop(name)
        spender.kill()
        self.answered += spender.told.count("200")

    def ready(self) -> None:
        self.until(lambda: all("ready" in s.told for s in self.spenders.values()), START_LIMIT_S)

    @staticmethod
    def until(true: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not true():
            assert time.monotonic() < end, "It takes too long."
            time.sleep(0.02)

    def close(self) -> None:
        for name in list(self.spenders):
            self.kill_spender(name)
        self.kill_conductor()
        self.redis.stop()
        self.postgres.stop()

    def sql(self, query: str) -> list[tuple[int, ...]]:
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def town(host: SimulatedHost) -> Iterator[Town]:
    host.fail("delay", delay_ms=20)
    # Not below pytest's own directory, which PostgreSQL's account may not enter.
    root = Path(tempfile.mkdtemp(prefix="orchestra-storm-"))
    town = Town(root, host.url)
    try:
        town.open()
        yield town
    finally:
        town.close()
        shutil.rmtree(root, ignore_errors=True)


def trouble(town: Town, number: int, chance: random.Random) -> None:
    """What happens in a round; in the first, nothing."""
    if number == 0:
        return
    time.sleep(chance.uniform(0.05, 0.4))
    for name in chance.sample(sorted(town.spenders), 2):
        town.kill_spender(name)
    kind = number % 3
    if kind == 1:
        redis.Redis.from_url(town.redis.url).flushall()
        town.kill_conductor()
        town.start_conductor()
    elif kind == 2:
        town.postgres.stop()
        time.sleep(0.3)
        town.postgres.start()
    else:
        town.redis.stop()
        town.redis.start()


@pytest.mark.timeout(110 + 20 * ROUNDS)
def test_no_storm_overspends_or_keeps_money(town: Town) -> None:
    chance = random.Random(ROUNDS)  # noqa: S311
    rooms = []
    for number in range(ROUNDS):
        for worker in range(WORKERS):
            if f"web-{worker}" not in town.spenders:
                town.start_spender(f"web-{worker}")
        town.ready()
        rooms.append(chance.choice([1, 5, 20, 50]) if number else 50)
        for spender in town.spenders.values():
            limit = rooms[-1] * PRICE_NUSD
            spender.told.append("begun")
            spender.begin(f"round-{number} {limit} {CALLERS_EACH} {REFUSALS}")
        trouble(town, number, chance)
        town.until(lambda: all(s.told[-1:] == ["done"] for s in town.spenders.values()), 30)
        if number == 0:
            # Undisturbed, every last one of them is answered.
            assert sum(s.told.count("200") for s in town.spenders.values()) == rooms[0]
    for name in list(town.spenders):
        town.kill_spender(name)
    at_rest(town)
    windows = town.sql(
        "SELECT limit_nusd, spent_nusd, leased_nusd, overrun_nusd FROM routing_budgetwindow"
        " WHERE limit_nusd > 0"
    )
    assert len(windows) == ROUNDS
    for limit, spent, leased, overrun in windows:
        assert spent <= limit
        assert (leased, overrun) == (0, 0)
    ((recorded, paid),) = town.sql(
        "SELECT coalesce(sum(cost_nusd), 0)::bigint, count(*) FILTER (WHERE cost_nusd > 0)"
        " FROM telemetry_orchestratorrequest"
    )
    assert recorded == sum(spent for _, spent, _, _ in windows)
    # What was answered is paid for; what died under way is too.
    assert paid * PRICE_NUSD == recorded
    assert town.answered <= paid


def at_rest(town: Town) -> None:
    """Return when every spool is shipped and every dead worker's money is settled."""
    spool = town.home.spool
    town.until(
        lambda: not list(spool.glob("*/*.inflight")) and not list(spool.glob("*/*.spool")), 30
    )

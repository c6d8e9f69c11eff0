"""`up` as an operator meets it: started twice, on a busy port, killed, interrupted, again."""

import contextlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from orchestra_site.embedded import leash
from orchestra_site.environ import CHECKOUT
from orchestra_site.home import Home
from tests import environment, service
from tests.service import LiveService


def up(home: Path, port: int, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `up` where it is expected to end by itself."""
    env = environment.outside() | {"ORCHESTRA_HOME": str(home), "API_PORT": str(port)} | settings
    argv = [sys.executable, "manage.py", "ai-orchestra", "up", "--simulate"]
    return subprocess.run(
        argv, env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def home() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="orchestra-up-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def family_of(pid: int) -> list[psutil.Process]:
    supervisor = psutil.Process(pid)
    return [supervisor, *supervisor.children(recursive=True)]


def test_a_second_start_names_the_first(live_service: LiveService) -> None:
    result = up(live_service.home.root, service.free_port())
    assert result.returncode == 1
    [sentence] = result.stderr.splitlines()
    running = f"AI Model Orchestra is already running (pid {live_service.pid}) at"
    assert sentence.startswith(f"{running} {live_service.url}; stop it with Ctrl-C there or `kill")


def test_a_busy_port_is_named_before_anything_starts(home: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as other:
        port = other.server_address[1]
        result = up(home, port)
    assert result.returncode == 1
    [sentence] = result.stderr.splitlines()
    assert sentence.startswith(f"Port {port} of 127.0.0.1 is in use")
    assert f"pid {os.getpid()}" in sentence
    assert not (home / "pgdata").exists()


def test_bad_settings_are_told_together(home: Path) -> None:
    result = up(home, 1, API_PORT="none", WEB_WORKERS="-3")
    assert result.returncode == 2
    assert [line.split(" ")[0] for line in result.stderr.splitlines()] == [
        "API_PORT",
        "WEB_WORKERS",
    ]


def test_another_host_than_loopback_needs_a_secret(home: Path) -> None:
    result = up(home, service.free_port(), API_HOST="0.0.0.0")  # noqa: S104
    assert result.returncode == 1
    assert "which others can reach: set SECRET_KEY" in result.stderr


def test_a_database_that_does_not_answer_is_one_sentence(home: Path) -> None:
    result = up(
        home,
        service.free_port(),
        DATABASE_URL=f"postgresql://nobody@127.0.0.1:{service.free_port()}/none",
    )
    assert result.returncode == 1
    [sentence] = result.stderr.splitlines()
    assert sentence.startswith("The database cannot be used: connection failed")


@pytest.mark.parametrize("name", ["web-0", "conductor"])
def test_a_killed_worker_is_started_again(live_service: LiveService, name: str) -> None:
    old = live_service.child(name)
    old.kill()

    def replaced() -> bool:
        try:
            return live_service.child(name).pid != old.pid
        except LookupError:
            return False

    supervisor = psutil.Process(live_service.pid)
    assert wait_for(replaced, supervisor)
    assert wait_for(lambda: service.answers(f"{live_service.url}/readyz"), supervisor)
    assert (
        f"{name} was ended by SIGKILL; it starts again in"
        in (live_service.home.root / "up.txt").read_text()
    )


def wait_for(ready: object, supervisor: psutil.Process, limit_s: float = 20.0) -> bool:
    assert callable(ready)
    pause = threading.Event()
    for _ in range(int(limit_s / 0.1)):
        if ready():
            return True
        assert supervisor.is_running()
        pause.wait(0.1)
    return False


def test_commands_beside_it_find_its_engines(live_service: LiveService) -> None:
    env = environment.outside() | {"ORCHESTRA_HOME": str(live_service.home.root)}
    result = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--check"],
        env=env, cwd=CHECKOUT, capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.timeout(180)
def test_it_leaves_nothing_behind_and_finds_its_data_again(home: Path) -> None:
    """The life of one home: Ctrl-C to the whole group, a second start, kill -9, a third."""
    where = Home(home)
    with begun(home) as first:
        fill(where)
        password = (home / "admin_password").read_text()
        family = family_of(first.pid)
        assert len(family) >= 10
        os.killpg(first.pid, signal.SIGINT)
        assert first.wait(timeout=service.STOP_LIMIT_S) == 0
        assert service.gone(family) == []
        assert not (where.run / "engines.json").exists()

    with begun(home) as second:
        assert kept(where) == (42, 1)
        family = family_of(second.pid)
        second.kill()
        second.wait()
        assert service.gone(family, limit_s=10) == []

    with begun(home) as third:
        assert kept(where) == (42, 1)
        assert (home / "admin_password").read_text() == password
        leash.stop(third, signal.SIGTERM, service.STOP_LIMIT_S)
        assert third.returncode == 0


def fill(home: Home) -> None:
    with psycopg.connect(home.database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.Redis.from_url(home.redis_url) as store:
        store.xadd("kept", {"answer": "42"})


@contextlib.contextmanager
def begun(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the service and wait for it; whatever the block did, nothing of it remains."""
    port = service.free_port()
    process = service.start(home, port, WEB_WORKERS="1")
    try:
        service.wait_ready(process, f"http://127.0.0.1:{port}", home / "up.txt")
        yield process
    finally:
        leash.stop(process, signal.SIGTERM, service.STOP_LIMIT_S)


def kept(home: Home) -> tuple[int, int]:
    with psycopg.connect(home.database_url) as connection:
        row = connection.execute("SELECT answer FROM kept").fetchone()
    with redis.Redis.from_url(home.redis_url) as store:
        assert row is not None
        return row[0], int(store.xlen("kept"))


def test_it_stops_when_its_home_is_removed(home: Path) -> None:
    away = home.with_name(f"{home.name}-away")
    with begun(home) as process:
        family = family_of(process.pid)
        home.rename(away)
        try:
            assert process.wait(timeout=20) == 1
            assert service.gone(family) == []
            assert (away / "up.txt").read_text().endswith("was removed; stopping.\n")
        finally:
            away.rename(home)


def test_it_can_be_interrupted_while_it_starts(home: Path) -> None:
    process = service.start(home, service.free_port())
    assert leash.wait_until((home / "pgdata" / "PG_VERSION").exists, process, 20.0)
    family = family_of(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=service.STOP_LIMIT_S) == 0
    assert service.gone(family) == []
    assert (home / "up.txt").read_text() == ""

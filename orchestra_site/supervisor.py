"""`manage.py ai-orchestra up`: starts everything, keeps it alive, and stops it in order.

Never imports Django: it would double the time to the first answer, and a supervisor should have
little that can break.
"""

import argparse
import contextlib
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from orchestra_site import children, environ, greeting, home, listening, logfiles, ollama
from orchestra_site.children import Child
from orchestra_site.embedded import leash
from orchestra_site.embedded.postgres import START_LIMIT_S, Postgres
from orchestra_site.embedded.redis import Redis
from orchestra_site.errors import CannotStart, HomeError, OperatorError
from orchestra_site.stopping import Stopped, signals

READY_LIMIT_S = 60.0
PREPARE_LIMIT_S = 300.0
TEND_INTERVAL_S = 0.5
INSPECT_INTERVAL_S = 5.0
ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main(argv: Sequence[str]) -> int:
    """Run until told to stop; return the exit code, 1 after one sentence that says why."""
    options = _parse(argv)
    signals.install()
    try:
        environment = environ.read()
        with Supervisor(environment, simulate=options.simulate) as supervisor:
            supervisor.start()
            supervisor.tend()
    except Stopped:
        return 0
    except (OperatorError, environ.InvalidEnvironment) as exc:
        _say(str(exc))
        return 1
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="manage.py ai-orchestra up",
        description="Start the service: engines, migrations, web workers and conductor.",
    )
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="use the simulator even if Ollama runs on this machine",
    )
    return parser.parse_args(argv)


class Supervisor:
    """One run of the service; as a context manager it stops what it started."""

    def __init__(self, environment: environ.Environment, *, simulate: bool = False) -> None:
        self.environment = environment
        self.home = home.Home(environment.home)
        self._simulate = simulate
        self._stack = contextlib.ExitStack()
        self._engines: list[Child] = []  # in the order of their start
        self._stand_in: list[Child] = []
        self._conductor: list[Child] = []
        self._web: list[Child] = []
        self._preparing: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            self._stop()

    @property
    def url(self) -> str:
        host = self.environment.api_host
        # Every address is no address to ask.
        host = ANY_HOST.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.environment.api_port}"

    def start(self) -> None:
        """Start everything and return when the service answers."""
        host, port = self.environment.api_host, self.environment.api_port
        if self._simulate and self.environment.ollama_url:
            raise CannotStart("--simulate contradicts OLLAMA_URL: leave one of them out.")
        listening.refuse_open_door(self.environment)
        self.home.prepare()
        self._stack.enter_context(_alone(self.home))
        listener = self._stack.enter_context(listening.listen(host, port))
        logfiles.trim(self.home.logs)
        postgres, redis = self._launch_engines()
        upstream = self._find_ollama()
        env = self._child_environment(upstream, postgres, redis)
        self._preparing = self._launch_prepare(env, upstream)
        if postgres is not None:
            postgres.wait_ready()
        if redis is not None:
            redis.wait_ready()
        self._announce(env, upstream)
        self._finish_prepare(self._preparing)
        self._launch_workers(env, listener)
        self._wait_ready()
        told = greeting.text(
            self.url,
            self.home,
            upstream,
            simulate=self._simulate,
            keys_required=self.environment.keys_required,
        )
        _say(told, sys.stdout)

    def tend(self) -> None:
        """Keep every process alive until this one is told to stop."""
        inspect_at_s = 0.0
        while True:
            signals.check()
            # First: whoever is started again makes what it needs, and that would be a new home.
            if not self.home.run.exists():
                raise HomeError(f"ORCHESTRA_HOME ({self.home.root}) was removed; stopping.")
            for child in self._all():
                if news := child.tend():
                    _say(news)
            if time.monotonic() >= inspect_at_s:
                logfiles.trim(self.home.logs)
                inspect_at_s = time.monotonic() + INSPECT_INTERVAL_S
            signals.sleep(TEND_INTERVAL_S)

    def _all(self) -> list[Child]:
        return [*self._engines, *self._stand_in, *self._conductor, *self._web]

    # -- starting --------------------------------------------------------------------------------

    def _launch_engines(self) -> tuple[Postgres | None, Redis | None]:
        redis = None if self.environment.redis_url else Redis(self.home)
        postgres = None if self.environment.database_url else Postgres(self.home)
        for name, engine, how, limit_s in (
            ("postgres", postgres, signal.SIGINT, 2.5),
            ("redis", redis, signal.SIGTERM, 1.0),
        ):
            if engine is None:
                continue
            child = Child(name, engine.launch, engine.log, how, limit_s)
            self._engines.append(child)
            child.start()
        return postgres, redis

    def _find_ollama(self) -> ollama.Upstream:
        upstream = ollama.find(self.environment.ollama_url, simulate=self._simulate)
        if upstream.simulator_port is not None:
            argv = [sys.executable, "-m", "routing.simulator", "--port", upstream.simulator_port]
            self._stand_in = [self._worker("simulator", argv, dict(os.environ), limit_s=1.0)]
            self._stand_in[0].start()
        return upstream

    def _child_environment(
        self, upstream: ollama.Upstream, postgres: Postgres | None, redis: Redis | None
    ) -> dict[str, str]:
        env = dict(os.environ)
        env["DJANGO_SETTINGS_MODULE"] = "orchestra_site.settings"
        env["ORCHESTRA_HOME"] = str(self.home.root)
        env["OLLAMA_URL"] = upstream.url
        env["ORCHESTRA_REQUIRE_KEYS"] = "true" if self.environment.keys_required else "false"
        env["ORCHESTRA_SIMULATED"] = "1" if upstream.simulator_port else ""
        if postgres is not None:
            env["DATABASE_URL"] = postgres.url
        if redis is not None:
            env["REDIS_URL"] = redis.url
        if not self.environment.secret_key:
            # Made here, before several workers would make one at once.
            self.home.secret_key()
        return env

    def _launch_prepare(
        self, env: dict[str, str], upstream: ollama.Upstream
    ) -> subprocess.Popen[bytes]:
        # The embedded PostgreSQL is still starting; somebody else's should be there.
        limit_s = 5.0 if self.environment.database_url else START_LIMIT_S
        argv = [sys.executable, "-m", "orchestra_site.prepare", "--ollama-url", upstream.url]
        argv += ["--connect-limit-s", str(limit_s)]
        if upstream.simulator_port:
            argv.append("--simulated")
        log = self.home.logs / "prepare.log"
        log.unlink(missing_ok=True)
        return leash.spawn(argv, log=log, env=env, cwd=environ.CHECKOUT)

    def _finish_prepare(self, process: subprocess.Popen[bytes]) -> None:
        leash.wait_until(lambda: process.poll() is not None, process, PREPARE_LIMIT_S)
        if process.poll() != 0:
            log = self.home.logs / "prepare.log"
            raise CannotStart(f"{leash.last_line(log)} (see {log})")

    def _launch_workers(self, env: dict[str, str], listener: socket.socket) -> None:
        argv = [sys.executable, "-m", "orchestra_site.web"]
        fd = listener.fileno()
        for number in range(self.environment.web_workers):
            name = f"web-{number}"
            web_env = env | {"ORCHESTRA_WORKER": name, "ORCHESTRA_LISTEN_FD": str(fd)}
            self._web.append(self._worker(name, argv, web_env, limit_s=2.5, pass_fds=(fd,)))
        argv = [sys.executable, "-m", "orchestra_site.conductor"]
        conductor_env = env | {"ORCHESTRA_WORKER": "conductor"}
        self._conductor = [self._worker("conductor", argv, conductor_env, limit_s=3.6)]
        for child in (*self._web, *self._conductor):
            child.start()

    def _worker(
        self,
        name: str,
        argv: Sequence[object],
        env: dict[str, str],
        *,
        limit_s: float,
        pass_fds: tuple[int, ...] = (),
    ) -> Child:
        log = self.home.logs / f"{name}.log"
        parts = [str(part) for part in argv]

        def launch() -> subprocess.Popen[bytes]:
            return leash.spawn(parts, log=log, env=env, cwd=environ.CHECKOUT, pass_fds=pass_fds)

        return Child(name, launch, log, stop_limit_s=limit_s)

    def _announce(self, env: dict[str, str], upstream: ollama.Upstream) -> None:
        pid = os.getpid()
        path = self.home.run / "engines.json"
        home.Running(
            pid=pid,
            started_at=home.started_at(pid) or 0.0,
            url=self.url,
            database_url=env["DATABASE_URL"],
            redis_url=env["REDIS_URL"],
            ollama_url=upstream.url,
            simulated=upstream.simulator_port is not None,
            secret_check=home.secret_check(self.environment.secret_key or self.home.secret_key()),
        ).write(self.home)
        self._stack.callback(path.unlink, missing_ok=True)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_LIMIT_S
        while not self._answers():
            signals.check()
            for child in self._all():
                child.tend()
                child.must_live()
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"The service did not get ready within {READY_LIMIT_S:.0f} s:"
                    f" {leash.last_line(self._web[0].log)} (see {self.home.logs})."
                )
            signals.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(
            self.environment.api_host, self.environment.api_port, timeout=1.0
        )
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # -- stopping --------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Stop in the order that loses nothing: whoever writes before what is written to.

        The limits of the stages add up to less than ten seconds.
        """
        if self._preparing is not None:
            leash.kill(self._preparing)
        children.stop_together(self._web)
        children.stop_together([*self._conductor, *self._stand_in])
        for engine in reversed(self._engines):
            children.stop_together([engine])


@contextlib.contextmanager
def _alone(where: home.Home) -> Iterator[None]:
    """Hold the lock of this home; raise CannotStart naming the run that has it."""
    with (where.run / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(_other_run(where)) from None
        yield


def _other_run(where: home.Home) -> str:
    other = home.running(where)
    if other is None:
        return f"AI Model Orchestra is just starting or stopping with {where.root}; try again."
    return (
        f"AI Model Orchestra is already running (pid {other.pid}) at {other.url}; stop it with"
        f" Ctrl-C there or `kill {other.pid}`, or set ORCHESTRA_HOME and API_PORT for a second one."
    )


def _say(words: str, where: TextIO = sys.stderr) -> None:
    # Whoever listened may have left; that must not keep the rest from being stopped.
    with contextlib.suppress(OSError):
        print(words, file=where, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

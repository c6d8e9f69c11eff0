"""`manage.py ai-orchestra`: the same words, and those the script hands over to it."""

import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from orchestra_site.home import Home, Running, started_at
from tests.cli.conftest import ROOT, SCRIPT, Result, run_script
from tests.cli.service import Service
from tests.environment import outside


def manage(*arguments: str, **environ: str) -> Result:
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "ai-orchestra", *arguments],
        env=outside() | environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


def test_it_does_what_the_script_does(service: Service, tmp_path: Path) -> None:
    url, home = service.url, str(tmp_path)
    arguments = ("models", "--include-metrics")
    managed = manage(*arguments, ORCHESTRA_URL=url, ORCHESTRA_HOME=home)
    assert managed == run_script(*arguments, ORCHESTRA_URL=url)


def test_it_has_the_scripts_exit_codes(tmp_path: Path) -> None:
    result = manage("slect", ORCHESTRA_HOME=str(tmp_path))
    assert (result.code, result.out) == (2, "")
    assert "did you mean 'select'?" in result.err


@pytest.mark.parametrize("command", ["up", "simulate", "policy"])
def test_help_is_handed_over(command: str, tmp_path: Path) -> None:
    result = run_script(command, "--help", ORCHESTRA_HOME=str(tmp_path))
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("usage: ")


def test_without_an_environment_it_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "cli", tmp_path / "cli")
    done = subprocess.run(
        [str(tmp_path / "cli" / "ai-orchestra"), "up"],
        env=outside(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"'up' runs in the checkout's .venv, and {tmp_path} has none." in done.stderr


def test_the_simulator_answers_until_ctrl_c(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(SCRIPT), "simulate", "--port", "0", "--instant"],
        env=outside() | {"ORCHESTRA_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+?(?=:? |: )", process.stdout.readline())
        assert address is not None
        assert "version" in httpx.get(f"{address[0]}/api/version", timeout=10).json()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, 130)


@contextmanager
def announced(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that `engines.json` names as the running `up` of this home."""
    process = subprocess.Popen(["sleep", "60"])
    # A process that has ended stays in the process table until somebody asks for its end.
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    where = Home(home)
    where.prepare()
    Running(
        pid=process.pid,
        started_at=started_at(process.pid) or 0.0,
        url="http://127.0.0.1:1",
        database_url="",
        redis_url="",
        ollama_url="",
        simulated=False,
    ).write(where)
    try:
        yield process
    finally:
        process.kill()
        reaper.join()


def test_down_stops_what_runs_and_only_that(tmp_path: Path) -> None:
    with announced(tmp_path) as process:
        result = run_script("down", ORCHESTRA_HOME=str(tmp_path))
        assert result == Result(0, f"Stopped http://127.0.0.1:1 (process {process.pid}).\n", "")
    assert process.returncode == -signal.SIGTERM


def test_down_is_content_when_nothing_runs(tmp_path: Path) -> None:
    result = run_script("down", ORCHESTRA_HOME=str(tmp_path))
    assert result == Result(0, f"Nothing runs with ORCHESTRA_HOME {tmp_path}.\n", "")
    assert run_script("down", "--force", ORCHESTRA_HOME=str(tmp_path)).code == 2

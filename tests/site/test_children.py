"""A child that dies is started again, ever more patiently; one that never lives is given up."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra_site import children
from orchestra_site.children import Child
from orchestra_site.embedded import leash
from orchestra_site.errors import CannotStart

SLEEP = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)"
FAIL = "raise SystemExit('no such luck')"


class Code:
    """What the next launch runs; a test may change it."""

    def __init__(self, text: str) -> None:
        self.text = text


@pytest.fixture
def code() -> Code:
    return Code(SLEEP)


@pytest.fixture
def child(code: Code, tmp_path: Path) -> Iterator[Child]:
    log = tmp_path / "child.log"

    def launch() -> subprocess.Popen[bytes]:
        return leash.spawn([sys.executable, "-uc", code.text], log=log)

    made = Child("child", launch, log, stop_limit_s=0.5)
    yield made
    children.stop_together([made])


def process_of(child: Child) -> subprocess.Popen[bytes]:
    assert child.process is not None
    return child.process


def dies(child: Child) -> str:
    process_of(child).wait(timeout=10)
    news = child.tend()
    assert news is not None
    return news


def test_a_living_child_is_no_news(child: Child) -> None:
    child.start()
    assert child.tend() is None
    assert child.failures == 0


def test_a_killed_child_starts_again_after_a_delay(child: Child) -> None:
    child.start()
    process_of(child).kill()
    assert "was ended by SIGKILL; it starts again in 0.25 s" in dies(child)
    old = process_of(child).pid
    assert child.tend() is None
    assert process_of(child).pid == old
    time.sleep(0.3)
    assert child.tend() is None
    assert process_of(child).pid != old


def test_the_delay_doubles_up_to_a_limit(child: Child, code: Code) -> None:
    code.text = FAIL
    child.start()
    assert "ended with exit code 1; it starts again in 0.25 s" in dies(child)
    child.start()
    assert "again in 0.5 s" in dies(child)
    child.failures = 40
    child.start()
    assert "again in 30 s" in dies(child)


def test_a_long_life_is_forgiven(child: Child) -> None:
    child.start()
    child.failures = 5
    child.started_s -= children.SETTLED_S + 1
    process_of(child).kill()
    assert "again in 0.25 s" in dies(child)


def test_a_child_that_never_lives_is_given_up_with_its_last_words(child: Child, code: Code) -> None:
    code.text = FAIL
    for _ in range(children.START_ATTEMPTS):
        child.must_live()
        child.start()
        dies(child)
    with pytest.raises(CannotStart, match="child does not start: no such luck"):
        child.must_live()


def test_a_deaf_child_is_killed_in_time(child: Child, code: Code) -> None:
    code.text = DEAF
    child.start()
    assert leash.wait_until(lambda: "deaf" in child.log.read_text(), process_of(child), 10)
    process, began = process_of(child), time.monotonic()
    children.stop_together([child])
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - began < 5


def test_children_are_leashed_and_in_groups_of_their_own(child: Child, code: Code) -> None:
    code.text = "import os; print(os.getpgid(0) == os.getpid(), flush=True)\n" + SLEEP
    child.start()
    assert leash.wait_until(lambda: "True" in child.log.read_text(), process_of(child), 10)

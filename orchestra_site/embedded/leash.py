"""Starting processes that never outlive the one that started them, and stopping them."""

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from orchestra_site.stopping import signals

PR_SET_PDEATHSIG = 1


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def leash(death_signal: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that has the kernel send the signal when the parent is gone.

    The kernel watches the *thread* that forked, so only a long-lived one may start processes.
    """
    parent = os.getpid()
    libc = _libc()

    def preexec() -> None:
        if libc is None:
            return
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The parent may have died before the call above.
        if os.getppid() != parent:
            os._exit(1)

    return preexec


@dataclass(frozen=True, slots=True)
class Account:
    """The system user a process runs as."""

    uid: int
    gid: int


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    death_signal: signal.Signals = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    account: Account | None = None,
    cwd: Path = Path("/"),
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a leashed process in a process group of its own, its output appended to a log.

    A group of its own: a terminal's Ctrl-C reaches the supervisor alone, which then stops the
    others in order.
    """
    with _opened(log) as output:
        return subprocess.Popen(  # noqa: S603
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            process_group=0,
            pass_fds=pass_fds,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=leash(death_signal),
        )


def _opened(log: Path) -> IO[bytes]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)


def stop(process: subprocess.Popen[bytes], how: signal.Signals, limit_s: float) -> None:
    """Send the signal and wait; kill the process's group when it takes longer.

    A second Ctrl-C is more impatient than any limit.
    """
    if process.poll() is None:
        process.send_signal(how)
    finish(process, limit_s)


def finish(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Wait for a process that was told to stop; kill its group when it takes longer."""
    deadline = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < deadline and signals.asked < 2:
        signals.sleep(0.02)
    kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process's group and reap it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stop_stranger(pid: int, how: signal.Signals, limit_s: float) -> None:
    """Stop a process that somebody else started; kill it when it takes longer."""
    with contextlib.suppress(psutil.NoSuchProcess):
        stranger = psutil.Process(pid)
        stranger.send_signal(how)
        try:
            stranger.wait(timeout=limit_s)
        except psutil.TimeoutExpired:
            stranger.kill()
            stranger.wait(timeout=5)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Return True once `ready` holds; False when the process ended or the time is over."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and process.poll() is None:
        signals.check()
        if ready():
            return True
        signals.sleep(0.02)
    return False


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, for an error message."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-50:]
    except OSError:
        return "nothing was logged"
    telling = [line.strip() for line in lines if line.strip()]
    return telling[-1][:300] if telling else "nothing was logged"

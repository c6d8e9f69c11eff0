"""What each part of a running service spent of the processors."""

from collections import defaultdict
from pathlib import Path

import psutil

ROLES = ("web", "conductor", "postgres", "redis")


def spent_s(home: Path) -> dict[str, float]:
    """Return the CPU seconds, user and system, of a service's living processes, by role."""
    found: dict[str, float] = defaultdict(float)
    seen: set[int] = set()
    for process in psutil.process_iter():
        try:
            if not _belongs(process, home):
                continue
            # PostgreSQL's backends are named after what they do.
            for one in (process, *process.children(recursive=True)):
                role = _role(one)
                if role and one.pid not in seen:
                    seen.add(one.pid)
                    times = one.cpu_times()
                    found[role] += times.user + times.system
        except psutil.Error:
            continue  # gone meanwhile, or none of ours
    return found


def _belongs(process: psutil.Process, home: Path) -> bool:
    if any(str(home) in word for word in process.cmdline()):
        return True
    return process.environ().get("ORCHESTRA_HOME") == str(home)


def _role(process: psutil.Process) -> str:
    worker = process.environ().get("ORCHESTRA_WORKER", "").partition("-")[0]
    if worker in ROLES:
        return worker
    return next((role for role in ROLES if role in process.name()), "")

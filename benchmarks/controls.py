"""route-request with a key, budgets and every rate limit, beside the same without any of them.

Both are asked of one running service in turn, so the ratio is what the controls cost.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import cpu, servers
from benchmarks.http import ROUTE, ROUTE_BODY, WORKERS
from benchmarks.load import Peak, peak

# High enough to refuse nobody: what is measured is the keeping of them.
MANY = 10**11
SPENDERS = f"""
models:
- name: {servers.MODEL}
  capabilities: [completion, reasoning, code, analysis]
  quality_tier: good
  speed: fast
  ram_required_gb: 3.0
  context_length: 131072
  cost_per_1k_input_usd: 0.001
  cost_per_1k_output_usd: 0.002
tenants:
- name: bench
  requests_per_minute: {MANY}
  requests_per_day: {MANY}
  tokens_per_minute: {MANY}
  tokens_per_day: {MANY}
"""
BUDGETS = """
budgets:
- {name: tenant-month, scope: tenant, subject: bench, period: month, limit_usd: 100000}
- {name: key-day, scope: key, subject: bench, period: day, limit_usd: 100000}
"""
SETTLED_S = 15.0
# The last records of a run are shipped within this.
SHIPPED_S = 0.5

Row = dict[str, Any]
Side = tuple[Peak, dict[str, float]]  # and CPU µs a request, by role


def measure(rounds: int, seconds: float) -> tuple[list[Row], list[Row]]:
    """Return requests a second without and with the controls, and what each cost whom.

    Every other round begins with the controls: what came before is nobody's advantage.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        web, home = folder / "web", folder / "home"
        web.mkdir()
        with servers.nginx(web) as upstream, servers.orchestra(home, WORKERS, upstream) as ours:
            token = _controls(home, folder)
            sides = {"without": "", "with": token}
            for side in sides.values():
                peak(f"{ours}{ROUTE}", ROUTE_BODY, 1.0, side)
            pairs = []
            for number in range(rounds):
                order = sorted(sides, reverse=number % 2 == 0)
                pair = {s: _side(home, f"{ours}{ROUTE}", seconds, sides[s]) for s in order}
                pairs.append((pair["without"], pair["with"]))
            spent = _spent(ours, token)
    return [_rates(pairs, spent)], [_costs(n, pairs, i) for i, n in enumerate(sides)]


def _side(home: Path, url: str, seconds: float, token: str) -> Side:
    before = cpu.spent_s(home)
    run = peak(url, ROUTE_BODY, seconds, token)
    time.sleep(SHIPPED_S)
    used = cpu.spent_s(home)
    return run, {role: (used[role] - before[role]) / run.requests * 1e6 for role in cpu.ROLES}


def _rates(pairs: list[tuple[Side, Side]], spent: float) -> Row:
    runs = [(without, with_) for (without, _), (with_, _) in pairs]
    ratios = [with_.per_s / without.per_s for without, with_ in runs]
    return {
        "route-request": "a key, two budgets, four limits",
        "without/s": round(median(p.per_s for p, _ in runs)),
        "with/s": round(median(p.per_s for _, p in runs)),
        "ratio": round(median(ratios), 3),
        "range": f"{min(ratios):.3f} to {max(ratios):.3f}",
        "p99 ms without": round(median(p.p99_ms for p, _ in runs), 2),
        "p99 ms with": round(median(p.p99_ms for _, p in runs), 2),
        "errors": sum(p.errors for pair in runs for p in pair),
        "spent USD": spent,
    }


def _costs(name: str, pairs: list[tuple[Side, Side]], side: int) -> Row:
    """Return the medians of the CPU µs that a request cost each role."""
    by_role = {role: median(pair[side][1][role] for pair in pairs) for role in cpu.ROLES}
    row: Row = {"CPU µs a request": f"{name} the controls"}
    return row | {role: round(us, 1) for role, us in by_role.items()}


def _controls(home: Path, folder: Path) -> str:
    """Put the policy in force and return the token of a key that it counts."""
    policy = folder / "policy.yaml"
    policy.write_text(SPENDERS)
    _manage(home, "policy", "apply", str(policy))
    said = _manage(home, "keys", "create", "bench", "--tenant", "bench")
    found = re.search(r"\bao_bench_\w+", said)
    if found is None:
        raise RuntimeError(f"keys create printed no token: {said[:200]}")
    # A budget of a key needs the key.
    policy.write_text(BUDGETS)
    _manage(home, "policy", "apply", str(policy))
    time.sleep(2.0)  # every worker knows the key and holds its first leases
    return found[0]


def _manage(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", "ai-orchestra", *words],
        cwd=servers.ROOT,
        env=os.environ | {"ORCHESTRA_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def _spent(url: str, token: str) -> float:
    """Return what the tenant's budget says was spent, once the records have been shipped."""
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{url}/api/v1/ai/budgets", headers={"Authorization": f"Bearer {token}"}
    )
    before, end = -1.0, time.monotonic() + SETTLED_S
    while time.monotonic() < end:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            budgets = json.load(answer)["budgets"]
        spent = max(float(budget["spent_usd"]) for budget in budgets)
        if spent == before:
            return spent
        before = spent
        time.sleep(1.5)
    return before

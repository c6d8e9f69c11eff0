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

from benchmarks import servers
from benchmarks.http import ROUTE, ROUTE_BODY, WORKERS
from benchmarks.load import peak

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


def measure(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return one row: requests a second without and with the controls, and their ratio."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        web, home = folder / "web", folder / "home"
        web.mkdir()
        with servers.nginx(web) as upstream, servers.orchestra(home, WORKERS, upstream) as ours:
            token = _controls(home, folder)
            url = f"{ours}{ROUTE}"
            peak(url, ROUTE_BODY, 1.0)
            peak(url, ROUTE_BODY, 1.0, token)
            pairs = [
                (peak(url, ROUTE_BODY, seconds), peak(url, ROUTE_BODY, seconds, token))
                for _ in range(rounds)
            ]
            spent = _spent(ours, token)
    ratios = [with_.per_s / without.per_s for without, with_ in pairs]
    return [
        {
            "route-request": "a key, two budgets, four limits",
            "without/s": round(median(p.per_s for p, _ in pairs)),
            "with/s": round(median(p.per_s for _, p in pairs)),
            "ratio": round(median(ratios), 3),
            "range": f"{min(ratios):.3f} to {max(ratios):.3f}",
            "p99 ms without": round(median(p.p99_ms for p, _ in pairs), 2),
            "p99 ms with": round(median(p.p99_ms for _, p in pairs), 2),
            "errors": sum(p.errors for pair in pairs for p in pair),
            "spent USD": spent,
        }
    ]


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

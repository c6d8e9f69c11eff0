"""Load generators from Debian: wrk for the peak, h2load for a steady rate."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 32
_LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %f %f %f\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Peak:
    """One wrk run: how much went through at 32 connections."""

    requests: int
    per_s: float
    errors: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Steady:
    """One h2load run at a fixed rate."""

    rate: float
    requests: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def peak(url: str, body: str, seconds: float, token: str = "") -> Peak:
    """Return what `url` bears from 32 connections on one thread, with or without an API key."""
    lua = _LUA.replace("{body}", body)
    if token:
        lua += f'wrk.headers["Authorization"] = "Bearer {token}"\n'
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua)
        script.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{round(seconds)}s", "-s", script.name, url]
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + 30, check=True
        )
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\S+) (\S+) (\S+)", run.stdout)
    if found is None:
        raise RuntimeError(f"wrk printed no result: {run.stdout[-300:]}")
    requests, microseconds, errors = (int(found[i]) for i in (1, 2, 3))
    p50, p95, p99 = (float(found[i]) / 1000 for i in (4, 5, 6))
    return Peak(requests, requests / microseconds * 1e6, errors, p50, p95, p99)


def steady(url: str, body: str, rate: float, seconds: float) -> Steady:
    """Return latencies at `rate` requests a second, spread over 32 connections."""
    each = max(1, round(rate / CONNECTIONS))
    total = each * CONNECTIONS * int(seconds)
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder, "body"), Path(folder, "log")
        data.write_text(body)
        command = [
            "h2load", "--h1", f"-c{CONNECTIONS}", "-t1", f"-n{total}", f"--rps={each}",
            f"--data={data}", "-Hcontent-type: application/json", f"--log-file={log}", url,
        ]  # fmt: skip
        subprocess.run(command, capture_output=True, timeout=seconds * 4 + 60, check=True)
        rows = [line.split("\t") for line in log.read_text().splitlines()]
    took_ms = sorted(int(row[2]) / 1000 for row in rows)
    failed = sum(1 for row in rows if row[1] != "200")
    at = {q: took_ms[min(len(took_ms) - 1, int(q * len(took_ms)))] for q in (0.5, 0.95, 0.99)}
    return Steady(each * CONNECTIONS, len(rows), failed, at[0.5], at[0.95], at[0.99])

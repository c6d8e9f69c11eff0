"""Tables for people, JSON for the next run."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).resolve().parent / "results"
TARGETS = (
    ("select-model / bare Starlette echo", ("select", "ratio"), 0.45),
    ("select-model requests/s", ("select", "ours_per_s"), 8_000),
    ("route-request / bare Starlette + pyreqwest", ("route", "ratio"), 0.5),
    ("route-request requests/s", ("route", "ours_per_s"), 5_000),
)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on, and at which commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def write(results: dict[str, Any]) -> Path:
    """Keep `results` as JSON; return where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latest.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path


def table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def show(results: dict[str, Any]) -> str:
    """Return every table of a run."""
    parts = [f"Measured on {results['machine']}"]
    for name in ("decisions", "pressure", "keys", "controls", "controls_cpu"):
        if rows := results.get(name):
            parts.append(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    if "http" in results:
        parts += _http(results["http"])
    if "streams" in results:
        parts += _streams(results["streams"])
    return "\n\n".join(parts)


def _streams(found: dict[str, Any]) -> list[str]:
    sides = {"straight": found["straight"], "through the service": found["through"]}
    headings = (f"{found['streams']} open streams", *found["straight"])
    memory = found["worker_mib"]
    return [
        table(headings, [(name, *figures.values()) for name, figures in sides.items()]),
        table(
            (
                "added to a gap at p99, ms",
                "memory a stream, KiB",
                "worker before, MiB",
                "most, MiB",
            ),
            [(found["added_p99_ms"], found["kib_per_stream"], memory["before"], memory["most"])],
        ),
    ]


def _http(http: dict[str, Any]) -> list[str]:
    rows = [
        (name, http[name]["bare_per_s"], http[name]["ours_per_s"], http[name]["ratio"],
         f"{http[name]['ratio_min']} to {http[name]['ratio_max']}", http[name]["ours_p50_ms"],
         http[name]["ours_p99_ms"], http[name]["errors"])
        for name in ("select", "route")
    ]  # fmt: skip
    peak = table(
        ("at the peak", "bare/s", "ours/s", "ratio", "range", "p50 ms", "p99 ms", "errors"), rows
    )
    half = http["half_rate"]
    steady = table(
        ("at half the peak", "requests/s", "p50 ms", "p95 ms", "p99 ms", "failed"),
        [
            (name, run["rate"], run["p50_ms"], run["p95_ms"], run["p99_ms"], run["failed"])
            for name, run in half.items()
        ],
    )
    records = table(tuple(http["records"]), [tuple(http["records"].values())])
    memory = http["memory_mib"]
    rest = table(
        ("process", "at rest, MiB", "after the load, MiB"),
        [(n, v, memory["after_load"].get(n, "")) for n, v in memory["at_rest"].items()],
    )
    judged = table(("target", "wanted", "measured", "met"), _judge(http))
    return [peak, steady, records, rest, judged]


def _judge(http: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for name, (part, key), wanted in TARGETS:
        measured = http[part][key]
        rows.append((name, wanted, measured, "yes" if measured >= wanted else "no"))
    missing = http["records"]["missing"]
    rows.append(("records missing", 0, missing, "yes" if missing == 0 else "no"))
    worst = max(
        (v for n, v in http["memory_mib"]["at_rest"].items() if n.startswith("web")), default=0
    )
    rows.append(("worker at rest, MiB", "< 150", worst, "yes" if 0 < worst < 150 else "no"))
    return rows

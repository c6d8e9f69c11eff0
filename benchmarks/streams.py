"""Many open streams on one worker: what each costs in memory, and what it loses in time.

The same clients read the same streams twice: straight from the simulator, then through the
service. Every stream comes at two tokens a second, so that the service and not the processors is
what is measured.
"""

import asyncio
import contextlib
import itertools
import json
import resource
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import servers
from tests.chaos import client
from tests.chaos.client import Exchange
from tests.chaos.engine import engines

STREAMS = 2000
TOKENS_PER_S = 2.0
TOKENS = 40
OPENED_PER_S = 250.0
WARM_UP = 50
STARVED = 10.0  # times its pace: a stream with such a gap counts as starved
LIMIT_S = 180.0
MODEL = "paced:1b"
MIB = 2**20
KIB = 2**10


def measure(streams: int = STREAMS) -> dict[str, Any]:
    """Return the figures of both ways and what lies between them."""
    _allow_files(3 * streams + 500)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        # The embedded PostgreSQL runs as a user of its own when this is root.
        folder.chmod(0o755)
        with _paced(folder, streams) as upstream:
            return asyncio.run(_measure(folder / "home", upstream, streams))


async def _measure(home: Path, upstream: str, streams: int) -> dict[str, Any]:
    straight = _figures(await _read(upstream, streams))
    with servers.orchestra(home, 1, upstream) as ours:
        await _until_known(ours)
        await _read(ours, WARM_UP, tokens=4)
        before = _worker_bytes(home)
        reading = asyncio.create_task(_read(ours, streams))
        most = before
        while not reading.done():
            await asyncio.sleep(1.0)
            most = max(most, _worker_bytes(home))
        through = _figures(await reading)
    return {
        "streams": streams,
        "straight": straight,
        "through": through,
        "added_p99_ms": round(through["gap_p99_ms"] - straight["gap_p99_ms"], 1),
        "kib_per_stream": round((most - before) / streams / KIB, 1),
        "worker_mib": {"before": round(before / MIB, 1), "most": round(most / MIB, 1)},
    }


async def _read(url: str, streams: int, tokens: int = TOKENS) -> list[Exchange]:
    """Return what every client saw; they come one after the other and then all read at once."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Go on."}],
        "stream": True,
        "max_tokens": tokens,
    }
    async with asyncio.TaskGroup() as group:
        reading = []
        for _ in range(streams):
            post = client.post(f"{url}/v1/chat/completions", body, LIMIT_S)
            reading.append(group.create_task(post))
            await asyncio.sleep(1 / OPENED_PER_S)
    return [task.result() for task in reading]


def _figures(seen: Sequence[Exchange]) -> dict[str, Any]:
    gaps = [_gaps(exchange) for exchange in seen]
    every = sorted(itertools.chain.from_iterable(gaps)) or [0.0]
    longest = STARVED / TOKENS_PER_S
    return {
        "complete": sum(e.whole and e.events()[-1:] == ["[DONE]"] for e in seen),
        "gap_p50_ms": round(1000 * every[len(every) // 2], 1),
        "gap_p99_ms": round(1000 * every[int(0.99 * len(every))], 1),
        "gap_most_ms": round(1000 * every[-1], 1),
        "starved": sum(any(gap > longest for gap in each) for each in gaps),
    }


def _gaps(exchange: Exchange) -> list[float]:
    """Return the times between tokens; what comes before the first and with the last is left out.

    The first part is the opening chunk, and the last token is followed by the end at once.
    """
    at = exchange.part_at_s[1:TOKENS]
    return [after - before for before, after in itertools.pairwise(at)]


async def _until_known(url: str) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    for _ in range(100):
        seen = await client.post(f"{url}/v1/chat/completions", body, LIMIT_S)
        if seen.status == 200:
            return
        await asyncio.sleep(0.2)
    raise RuntimeError(f"{url} does not know {MODEL}: {seen.body.decode()}")


def _worker_bytes(home: Path) -> int:
    """Return the proportional memory of the one worker."""
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get("ORCHESTRA_WORKER") == "web-0" and environ["ORCHESTRA_HOME"] == str(home):
            return int(process.memory_full_info().pss)
    raise RuntimeError("The worker is not running")


@contextlib.contextmanager
def _paced(folder: Path, streams: int) -> Iterator[str]:
    """Yield the URL of a simulator with one loaded model that serves all streams at once."""
    model = {
        "name": MODEL, "size_gb": 1, "load_time_s": 0, "slots": streams + 100,
        "tokens_per_s": TOKENS_PER_S, "prompt_tokens_per_s": 1_000_000, "answer_tokens": TOKENS,
        "blocks": 1, "embedding_length": 8, "heads": 4, "kv_heads": 1,
    }  # fmt: skip
    host = {"keep_alive_s": -1, "max_queue": 10 * streams}
    file = folder / "models.json"
    file.write_text(json.dumps({"host": host, "models": [model]}))
    with engines(["paced"], folder, ["--models", str(file)]) as [engine]:
        yield engine.url


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (-1, resource.RLIM_INFINITY) and hard < wanted:
        raise RuntimeError(f"{wanted} open files are needed, {hard} allowed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

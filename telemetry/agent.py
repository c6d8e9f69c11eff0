"""`ai-orchestra agent`: reports this machine's memory and its Ollama to the orchestra's Redis.

Needs neither Django nor PostgreSQL. Ends on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import contextlib
import logging
import math
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from telemetry import redis_names
from telemetry.agent_ollama import OllamaWatch
from telemetry.agent_report import Reporter, report_of
from telemetry.sampler import Sampler
from telemetry.waiting import Backoff, pause

logger = logging.getLogger(__name__)

EVENT = "system.resource_updated"
LOOK_EVERY_S = 0.05
STREAM_LENGTH = 10_000
REDIS_LIMIT_S = 2.0
LONGEST_INTERVAL_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # what a policy may call a host


class Agent:
    """Looks at the machine 20 times a second, and reports when it is time or something moved."""

    def __init__(
        self, redis: Redis, sampler: Sampler, ollama: OllamaWatch, host: str, interval_s: float
    ) -> None:
        self._redis = redis
        self._sampler = sampler
        self._ollama = ollama
        self._host = host
        self._reporter = Reporter(interval_s)
        self._backoff = Backoff(most_s=2.0)

    async def run(self, stop: asyncio.Event) -> None:
        """Report until `stop` is set."""
        watching = asyncio.create_task(self._ollama.run(stop))
        wait_s = 0.0
        try:
            while not await pause(stop, wait_s):
                wait_s = await self._look()
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _look(self) -> float:
        """Report if it is due; return how long to wait for the next look."""
        sample, now = self._sampler.sample(), asyncio.get_running_loop().time()
        if not self._reporter.due(sample, now, self._ollama.held):
            return LOOK_EVERY_S
        report = report_of(sample, self._host, self._reporter.interval_s, self._ollama)
        try:
            await self._redis.xadd(
                redis_names.EVENTS_IN,
                {"name": EVENT, "payload": msgspec.json.encode(report)},
                maxlen=STREAM_LENGTH,
                approximate=True,
            )
        except (RedisError, OSError) as exc:
            if self._backoff.fresh:
                logger.warning("Redis is away, reports are skipped until it is back: %s", exc)
            return self._backoff.failed()
        if not self._backoff.fresh:
            logger.warning("Redis is back; reporting goes on.")
        self._backoff.succeeded()
        self._reporter.told(sample, now, self._ollama.held)
        return LOOK_EVERY_S


def default_host() -> str:
    """Return this machine's name as a policy may write it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._")[:100]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="ai-orchestra agent",
        description="Report this machine's memory, and what its Ollama holds, to the orchestra.",
    )
    options.add_argument(
        "--redis-url",
        help="default: REDIS_URL of the environment, where other users cannot read its password",
    )
    options.add_argument(
        "--host", type=_host, help="the `host` of this machine's endpoints (its hostname)"
    )
    options.add_argument(
        "--ollama-url", type=_url, default="http://127.0.0.1:11434", help="(%(default)s)"
    )
    options.add_argument(
        "--interval",
        type=_interval,
        default=1.0,
        metavar="S",
        help="seconds between reports while nothing moves (%(default)s)",
    )
    options.add_argument("--once", action="store_true", help="print one report and end")
    return options


def _host(text: str) -> str:
    if text == "local" or not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot name a host; use letters, digits, '.', '_' and '-', and not 'local',"
            " which is each node's own machine"
        )
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+.*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not like http://127.0.0.1:11434")
    return text.rstrip("/")


def _interval(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and LOOK_EVERY_S <= seconds <= LONGEST_INTERVAL_S):
        raise argparse.ArgumentTypeError(
            f"{text} is not from {LOOK_EVERY_S} to {LONGEST_INTERVAL_S:g} seconds"
        )
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Report until told to stop; returns the exit status, 2 for anything wrongly asked for."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    try:
        host = options.host or _host(default_host())
        if options.once:
            return asyncio.run(_once(options, host))
        return asyncio.run(_run(options, host))
    except argparse.ArgumentTypeError as exc:
        sys.stderr.write(f"--host is needed: {exc}.\n")
    except BadRedisUrl as exc:
        sys.stderr.write(f"{exc}\n")
    except OSError as exc:
        sys.stderr.write(f"The memory of this machine cannot be read: {exc}\n")
    return 2


class BadRedisUrl(Exception):
    """Raised without a usable URL of Redis; its text never holds the URL, which has a password."""


def _redis(url: str) -> Redis:
    if not url:
        raise BadRedisUrl("No Redis is named: set REDIS_URL, or give --redis-url.")
    try:
        return Redis.from_url(
            url, socket_timeout=REDIS_LIMIT_S, socket_connect_timeout=REDIS_LIMIT_S
        )
    except ValueError:
        raise BadRedisUrl(
            "The URL of Redis cannot be read; write redis://:password@host:6379/0, rediss://… for"
            " TLS, or unix:///path."
        ) from None


async def _once(options: argparse.Namespace, host: str) -> int:
    ollama = OllamaWatch(options.ollama_url, options.interval)
    await ollama.look()
    report = report_of(Sampler().sample(), host, options.interval, ollama)
    text = msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
    sys.stdout.write(text + "\n")
    return 0


async def _run(options: argparse.Namespace, host: str) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    redis = _redis(options.redis_url or os.environ.get("REDIS_URL", ""))
    ollama = OllamaWatch(options.ollama_url, options.interval)
    try:
        sys.stdout.write(f"Reporting as host '{host}', every {options.interval:g} s.\n")
        sys.stdout.flush()
        await Agent(redis, Sampler(), ollama, host, options.interval).run(stop)
    finally:
        with contextlib.suppress(RedisError, OSError):
            await redis.aclose()
    return 0


if __name__ == "__main__":
    sys.exit(main())

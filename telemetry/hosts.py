"""The hosts that are known: this one as it is now, the others as they reported."""

import datetime as dt
import time
from typing import Any

from routing.engine.pressure import level_of
from telemetry.gpu import Gpu
from telemetry.sampler import HostSample
from telemetry.state_news import HostNews

LOCAL = "local"


def is_known(news: HostNews, now: float) -> bool:
    """Return whether a report still says something at `now` (seconds since the epoch)."""
    return now - news.at <= news.stale_after_s


def host_rows(
    local: HostSample, reported: dict[str, HostNews], now: float | None = None
) -> list[dict[str, Any]]:
    """Return a row for this host and each reporting one, by name; sizes in GiB."""
    now = time.time() if now is None else now
    others = [_reported(news, now) for _, news in sorted(reported.items()) if news.host != LOCAL]
    return [_local(local), *others]


def _local(host: HostSample) -> dict[str, Any]:
    return {
        "name": LOCAL,
        "at": dt.datetime.fromtimestamp(host.at, dt.UTC),
        "ageSeconds": 0.0,
        "known": True,
        "pressure": host.pressure,
        "level": host.level,
        "memoryAvailableGb": host.available_gb,
        "memoryTotalGb": host.total_gb,
        "swapUsedPercent": host.swap_percent,
        "psiSomePercent": host.stall.some,
        "psiFullPercent": host.stall.full,
        "gpus": _gpus(host.gpus),
    }


def _reported(news: HostNews, now: float) -> dict[str, Any]:
    return {
        "name": news.host,
        "at": dt.datetime.fromtimestamp(news.at, dt.UTC),
        "ageSeconds": round(max(0.0, now - news.at), 3),
        "known": is_known(news, now),
        "pressure": news.tightness,
        "level": level_of(news.tightness),
        "memoryAvailableGb": news.available_gb,
        "memoryTotalGb": news.total_gb,
        "swapUsedPercent": news.swap_percent,
        "psiSomePercent": news.psi_some,
        "psiFullPercent": news.psi_full,
        "gpus": _gpus(news.gpus),
    }


def _gpus(gpus: tuple[Gpu, ...]) -> list[dict[str, Any]]:
    return [{"name": g.name, "totalGb": g.total_gb, "freeGb": g.free_gb} for g in gpus]

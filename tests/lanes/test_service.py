"""A worker's data plane as a whole: its tasks start, go on, and stop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import redis

from routing.engine.catalog import PolicyDocument
from routing.lanes import service
from routing.lanes.service import DataPlane
from routing.policy import snapshot
from telemetry.sampler import HostSample, sample
from tests.cast import PLAIN, SAGE, document
from tests.waiting import soon


def publish(redis_url: str, policy: PolicyDocument, version: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        snapshot.write(client, msgspec.structs.replace(policy, version=version))


@asynccontextmanager
async def plane(redis_url: str, directory: Path, worker: str = "web-0") -> AsyncIterator[DataPlane]:
    made = DataPlane(
        redis_url=redis_url,
        spool_dir=directory,
        worker=worker,
        resolve_secret=lambda ref: "",
        secret="s" * 50,
        idempotency_ttl_s=600,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_it_takes_the_policy_and_every_new_one_within_a_second(
    redis_url: str, tmp_path: Path
) -> None:
    publish(redis_url, document((PLAIN,)), 1)
    async with plane(redis_url, tmp_path) as made:
        await soon(lambda: made.runtime.ready, 5)
        assert made.runtime.policy.models.keys() == {"plain"}
        publish(redis_url, document((SAGE,)), 2)
        await soon(lambda: made.runtime.policy.models.keys() == {"sage"}, 1)


async def test_it_looks_at_its_host_twenty_times_a_second(redis_url: str, tmp_path: Path) -> None:
    publish(redis_url, document((PLAIN,)), 1)
    async with plane(redis_url, tmp_path) as made:
        host = made.runtime.local
        assert host.known
        assert 0 < host.available_gb <= host.total_gb
        seen = host.at
        await soon(lambda: host.at > seen)


async def test_a_look_that_fails_does_not_end_the_looking(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(redis_url, document((PLAIN,)), 1)
    monkeypatch.setattr(service, "RESTART_S", 0.05)
    failures: list[OSError] = []

    def fail_three_times() -> HostSample:
        if len(failures) < 3:
            failures.append(OSError("/proc is not there"))
            raise failures[-1]
        return sample()

    async with plane(redis_url, tmp_path) as made:
        monkeypatch.setattr(service, "sample", fail_three_times)
        await soon(lambda: len(failures) == 3, 3)
        seen = made.runtime.local.at
        await soon(lambda: made.runtime.local.at > seen)
    assert "it begins again" in caplog.text


async def test_it_gives_up_its_name_in_the_spool(redis_url: str, tmp_path: Path) -> None:
    publish(redis_url, document((PLAIN,)), 1)
    for _ in range(2):
        async with plane(redis_url, tmp_path) as made:
            await soon(lambda made=made: made.runtime.ready, 5)  # type: ignore[misc]

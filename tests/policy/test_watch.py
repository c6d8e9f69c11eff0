"""A worker's policy stays current through news, lost news and outages."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
import redis.asyncio
from django.conf import LazySettings

from routing.engine.catalog import PolicyDocument
from routing.models import Model
from routing.policy import publish, snapshot
from routing.policy.database import in_thread
from routing.policy.export import policy_version
from routing.policy.watch import PolicyUnavailable, PolicyWatcher
from telemetry.redis_names import POLICY_CHANNEL, POLICY_SNAPSHOT, POLICY_VERSION
from tests.policy.catalogue import a_model

pytestmark = pytest.mark.django_db(transaction=True)

NOWHERE = "unix:///nonexistent/redis.sock"


class Worker:
    """Records what a running watcher delivers, and when."""

    def __init__(self) -> None:
        self.documents: list[PolicyDocument] = []
        self.at_s: list[float] = []
        self.news = asyncio.Event()

    def on_change(self, document: PolicyDocument) -> None:
        self.documents.append(document)
        self.at_s.append(time.perf_counter())
        self.news.set()

    async def next(self, within_s: float = 5) -> PolicyDocument:
        await asyncio.wait_for(self.news.wait(), within_s)
        self.news.clear()
        return self.documents[-1]


@contextlib.asynccontextmanager
async def running(watcher: PolicyWatcher) -> AsyncIterator[Worker]:
    worker, stop = Worker(), asyncio.Event()
    task = asyncio.create_task(watcher.run(stop, worker.on_change))
    try:
        yield worker
    finally:
        stop.set()
        await asyncio.wait_for(task, 5)


async def save(name: str, **fields: Any) -> Model:
    return await in_thread(functools.partial(a_model, name, **fields))


async def test_a_worker_starts_from_redis_without_postgres(
    redis_url: str, store: redis.Redis
) -> None:
    snapshot.write(store, PolicyDocument(version=7))
    assert (await PolicyWatcher(redis_url).initial()).version == 7


@pytest.mark.parametrize("found", [None, b"not MessagePack"])
async def test_a_worker_starts_from_postgres_where_redis_has_nothing_usable(
    redis_url: str, store: redis.Redis, found: bytes | None
) -> None:
    await save("stored")
    store.delete(POLICY_SNAPSHOT)
    if found:
        store.set(POLICY_SNAPSHOT, found)
    assert [m.name for m in (await PolicyWatcher(redis_url).initial()).models] == ["stored"]


async def test_a_worker_starts_from_postgres_without_redis() -> None:
    await save("stored")
    assert [m.name for m in (await PolicyWatcher(NOWHERE).initial()).models] == ["stored"]


async def test_without_both_the_reason_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from routing.policy import export

    def away() -> PolicyDocument:
        raise OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(export, "document_from_orm", away)
    with pytest.raises(
        PolicyUnavailable, match=r"^Redis is away .*PostgreSQL gives none: conn\S+ r\S+$"
    ):
        await PolicyWatcher(NOWHERE).initial()


async def test_a_save_is_delivered_at_once(redis_url: str) -> None:
    watcher = PolicyWatcher(redis_url, poll_s=60)
    await watcher.initial()
    async with running(watcher) as worker:
        await asyncio.sleep(0.2)
        await save("new")
        assert [m.name for m in (await worker.next()).models] == ["new"]


async def test_a_lost_message_is_made_up_for_by_polling(redis_url: str, store: redis.Redis) -> None:
    watcher = PolicyWatcher(redis_url, poll_s=0.1)
    await watcher.initial()
    async with running(watcher) as worker:
        await asyncio.sleep(0.3)
        # What a publication does, without telling anybody.
        store.set(POLICY_SNAPSHOT, snapshot.encode(PolicyDocument(version=90)))
        store.set(POLICY_VERSION, 90)
        assert (await worker.next()).version == 90


async def test_older_and_repeated_news_is_not_delivered(redis_url: str, store: redis.Redis) -> None:
    snapshot.write(store, PolicyDocument(version=7))
    watcher = PolicyWatcher(redis_url, poll_s=0.05)
    await watcher.initial()
    async with running(watcher) as worker:
        snapshot.write(store, PolicyDocument(version=6))
        store.publish(POLICY_CHANNEL, "7")
        await asyncio.sleep(0.4)
        assert worker.documents == []


async def test_a_version_seen_twice_at_once_is_delivered_once(
    redis_url: str, store: redis.Redis
) -> None:
    snapshot.write(store, PolicyDocument(version=7))
    watcher, worker = PolicyWatcher(redis_url), Worker()
    async with redis.asyncio.Redis.from_url(redis_url) as one, one.client() as other:
        await asyncio.gather(
            watcher._refresh(one, worker.on_change), watcher._refresh(other, worker.on_change)
        )
    assert [document.version for document in worker.documents] == [7]


async def test_without_redis_changes_come_from_postgres(
    settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL = NOWHERE
    watcher = PolicyWatcher(NOWHERE, poll_s=0.1)
    await watcher.initial()
    with caplog.at_level(logging.INFO, logger="routing.policy.watch"):
        async with running(watcher) as worker:
            await save("new")
            assert [m.name for m in (await worker.next()).models] == ["new"]
            await asyncio.sleep(0.5)
    assert caplog.text.count("Redis is away") == 1


async def test_news_arrives_again_after_redis_dropped_the_connection(
    redis_url: str, store: redis.Redis
) -> None:
    watcher = PolicyWatcher(redis_url, poll_s=60)
    await watcher.initial()
    async with running(watcher) as worker:
        await asyncio.sleep(0.2)
        assert store.client_kill_filter(_type="pubsub") == 1
        await save("while away")
        await worker.next()
        await save("after")
        assert len((await worker.next()).models) == 2


async def test_stored_disabled_models_are_part_of_it(redis_url: str) -> None:
    await save("off", enabled=False)
    document = await PolicyWatcher(redis_url).initial()
    assert not document.models[0].enabled
    assert await in_thread(policy_version) == document.version
    assert await in_thread(publish.publish_if_behind) is None
    assert await in_thread(Model.objects.count) == 1

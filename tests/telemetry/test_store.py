"""Rows and counters of one batch: every value arrives, nothing counts twice."""

import datetime as dt
import uuid

import psycopg
import pytest

from telemetry.database import AsyncConnection
from telemetry.folding import fold
from telemetry.record import Attempt, Charge, RequestRecord
from telemetry.shipper.store import CREATE_INCOMING, store
from tests.telemetry.asking import count_requests, one, rows
from tests.telemetry.records import a_record

NASTY = "tab\t newline\n backslash \\N \\ quote\" 'single' NUL\0 ☃ \x7f \u2028"


@pytest.fixture
async def shipping(database: AsyncConnection) -> AsyncConnection:
    await database.execute(CREATE_INCOMING)
    return database


async def test_every_value_arrives(shipping: AsyncConnection) -> None:
    record = RequestRecord(
        id=uuid.UUID(int=7).bytes,
        request_id="req-1",
        kind="chat",
        task_type="analysis",
        priority="high",
        created_at_us=1_795_455_555_123_456,
        selected_model="b:7b",
        endpoint="e-2",
        chosen_model="a:70b",
        fallback_used=True,
        degraded=True,
        reason="why",
        success=True,
        status=203,
        response_time_ms=1234,
        selection_time_us=56,
        first_token_ms=78,
        prompt_tokens=9,
        completion_tokens=10,
        usage_estimated=True,
        cost_nusd=1_234_567_891,
        cost_known=False,
        resource_pressure=0.875,
        stream=True,
        simulated=True,
        worker="web-3",
        attempts=(Attempt("a:70b", "e-1", 5, "upstream_timeout"), Attempt("b:7b", "e-2", 6)),
        cost_limit_nusd=11,
        estimated_cost_nusd=12,
        tenant="acme",
        key="acme-ci",
        tag="nightly",
        cached_tokens=3,
        charges=(
            Charge(uuid.UUID(int=5).bytes + uuid.UUID(int=6).bytes, 1_234_567_891),
            Charge(b"\xff" * 16, 0),
        ),
        baseline_model="z:405b",
        baseline_nusd=2_000_000_001,
        baseline_known=True,
    )
    await store(shipping, [record])
    cursor = await shipping.execute("SELECT * FROM telemetry_orchestratorrequest")
    (row,) = await cursor.fetchall()
    assert cursor.description is not None
    found = dict(zip((column.name for column in cursor.description), row, strict=True))
    created_at = dt.datetime(2026, 11, 23, 17, 39, 15, 123456, tzinfo=dt.UTC)
    assert found == {
        "id": uuid.UUID(int=7), "request_id": "req-1", "kind": "chat", "task_type": "analysis",
        "priority": "high", "created_at": created_at, "selected_model": "b:7b",
        "endpoint": "e-2", "chosen_model": "a:70b", "fallback_used": True, "degraded": True,
        "reason": "why", "success": True, "status": 203, "error_type": "", "error_message": None,
        "response_time_ms": 1234, "selection_time_us": 56, "first_token_ms": 78,
        "prompt_tokens": 9, "completion_tokens": 10, "usage_estimated": True,
        "cost_nusd": 1_234_567_891, "cost_estimate": 1.234567891, "cost_known": False,
        "resource_pressure": 0.875, "stream": True, "simulated": True, "worker": "web-3",
        "cost_limit_nusd": 11, "estimated_cost_nusd": 12,
        "tenant": "acme", "key": "acme-ci", "tag": "nightly", "cached_tokens": 3,
        "charges": [
            {"lease": "00000000-0000-0000-0000-000000000005", "nusd": 1_234_567_891},
            {"lease": "00000000-0000-0000-0000-000000000006", "nusd": 1_234_567_891},
            {"lease": "ffffffff-ffff-ffff-ffff-ffffffffffff", "nusd": 0},
        ],
        "baseline_model": "z:405b", "baseline_nusd": 2_000_000_001, "baseline_known": True,
        "attempts": [
            {"model": "a:70b", "endpoint": "e-1", "duration_ms": 5,
             "error_type": "upstream_timeout"},
            {"model": "b:7b", "endpoint": "e-2", "duration_ms": 6, "error_type": ""},
        ],
    }  # fmt: skip


async def test_nasty_texts_arrive_as_they_are_but_for_nul(shipping: AsyncConnection) -> None:
    record = a_record(1, reason=NASTY, error_message=NASTY, endpoint=NASTY, request_id=NASTY)
    record.attempts = (Attempt(NASTY, NASTY, 1, NASTY),)
    await store(shipping, [record])
    ((reason, message, endpoint, request_id, attempts),) = await rows(
        shipping,
        "SELECT reason, error_message, endpoint, request_id, attempts"
        " FROM telemetry_orchestratorrequest",
    )
    wanted = NASTY.replace("\0", "")
    assert [reason, message, endpoint, request_id] == [wanted] * 4
    assert attempts[0]["model"] == attempts[0]["error_type"] == wanted


async def test_storing_twice_counts_once(shipping: AsyncConnection) -> None:
    records = [a_record(n) for n in range(50)]
    assert len(await store(shipping, records[:30])) == 30
    assert len(await store(shipping, records)) == 20
    assert await store(shipping, [records[0], records[0]]) == []
    assert await count_requests(shipping) == 50
    await fold(shipping)
    assert await one(shipping, "SELECT sum(request_count) FROM telemetry_modelmetric") == 50
    assert await one(shipping, "SELECT sum(request_count) FROM telemetry_requestminute") == 50


async def test_counters_are_exact(shipping: AsyncConnection) -> None:
    failed = {"success": False, "status": 502, "error_type": "upstream_fault"}
    records = [
        a_record(0, response_time_ms=100, cost_nusd=7),
        a_record(0, response_time_ms=201, **failed),
        a_record(0, kind="select", attempts=(), response_time_ms=9999),
        # Refused before any model was called.
        a_record(0, attempts=(), **failed),
        a_record(
            5,
            attempts=(Attempt("model-1", "e", 5, "upstream_fault"), Attempt("model-0", "e", 6)),
            response_time_ms=300,
            fallback_used=True,
        ),
        # A second attempt was faster than the first.
        a_record(
            5,
            attempts=(Attempt("model-1", "e", 5, "hedge_lost"), Attempt("model-0", "e", 6)),
            response_time_ms=300,
            fallback_used=True,
        ),
        # Everybody failed; the record names nobody.
        a_record(
            0,
            selected_model="",
            attempts=(Attempt("model-1", "e", 5, "x"), Attempt("model-2", "e", 6, "x")),
            **failed,
        ),
    ]
    await store(shipping, records[:1])
    await store(shipping, records[1:])
    await fold(shipping)
    metrics = await rows(
        shipping,
        "SELECT model_name, request_count, success_count, error_count, failed_attempts,"
        " avg_response_time_ms FROM telemetry_modelmetric ORDER BY model_name",
    )
    assert metrics == [
        ("model-0", 4, 3, 1, 0, pytest.approx((100 + 201 + 2 * 300) / 4)),
        ("model-1", 0, 0, 0, 2, 0.0),
        ("model-2", 1, 0, 1, 1, 100.0),
    ]
    minutes = await rows(
        shipping,
        "SELECT sum(request_count), sum(success_count), sum(fallback_count), sum(cost_nusd)"
        " FROM telemetry_requestminute",
    )
    assert minutes == [(7, 4, 2, 7 + 6 * 1_250_000)]
    grouped = await rows(
        shipping,
        "SELECT selected_model, count(*) FROM telemetry_orchestratorrequest"
        " WHERE kind <> 'select' AND (success OR attempts <> '[]') GROUP BY 1 ORDER BY 1",
    )
    assert grouped == [("model-0", 4), ("model-2", 1)]


async def test_last_used_is_the_latest_end_whatever_the_order(shipping: AsyncConnection) -> None:
    early = a_record(0, created_at_us=1_000_000_000_000_000, response_time_ms=0)
    late = a_record(0, created_at_us=1_000_000_060_000_000, response_time_ms=500)
    await store(shipping, [late])
    await store(shipping, [early])
    used = await one(shipping, "SELECT last_used FROM telemetry_modelmetric")
    assert used == dt.datetime(2001, 9, 9, 1, 47, 40, 500000, tzinfo=dt.UTC)


async def test_a_batch_that_cannot_be_stored_leaves_nothing(shipping: AsyncConnection) -> None:
    with pytest.raises(psycopg.DataError):
        await store(shipping, [a_record(0), a_record(1, response_time_ms=2**40)])
    assert await count_requests(shipping) == 0
    for table in ("modelmetric", "requestdelta"):
        assert await one(shipping, f"SELECT count(*) FROM telemetry_{table}") == 0  # noqa: S608
    assert len(await store(shipping, [a_record(0)])) == 1

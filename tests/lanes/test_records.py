"""Records: exactly one for each accepted request, and nothing in them that must not be kept."""

import logging
from typing import Any

import pytest
from msgspec import msgpack

from routing.simulator.text import count_tokens
from tests.cast import ALPHA, BETA, VECTORS, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import CHAT, MODELS, ROUTE, SELECT, SetStage, Stage, at

SECRET_PROMPT = "Agent Nightingale meets at the old mill"
SECRET_KEY = "sk-planted-0123456789abcdef"
ASK = {"taskType": "completion", "prompt": SECRET_PROMPT}
TALK = {"model": "auto", "messages": [{"role": "user", "content": SECRET_PROMPT}]}


async def test_one_for_each_accepted_request(stage: Stage, host: SimulatedHost) -> None:
    for path, body in ((SELECT, {"taskType": "code"}), (ROUTE, ASK), (CHAT, TALK)):
        await stage.post(path, body)
        await stage.post(path, {**body, "stream": 5})  # refused
    await stage.post(CHAT, {**TALK, "stream": True})
    await stage.get(MODELS)
    host.fail("html")
    await stage.post(ROUTE, ASK)
    await stage.post(CHAT, {**TALK, "stream": True})
    records = stage.records()
    told = [(r.kind, r.stream, r.status) for r in records]
    assert told == [
        ("select", False, 503),  # nobody here writes code
        ("route", False, 200),
        ("chat", False, 200),
        ("chat", True, 200),
        ("route", False, 502),
        ("chat", True, 502),
    ]
    assert len({r.id for r in records}) == len(records)


async def test_they_sort_by_time(quiet_stage: Stage) -> None:
    for _ in range(5):
        await quiet_stage.post(SELECT, {"taskType": "code"})
    records = quiet_stage.records()
    at_ms = [int.from_bytes(r.id[:6], "big") for r in records]
    assert at_ms == sorted(at_ms)
    assert at_ms == [r.created_at_us // 1000 for r in records]


class TestFullSpool:
    async def test_new_work_is_refused_before_anybody_is_asked(
        self, set_stage: SetStage, host: SimulatedHost
    ) -> None:
        stage = await set_stage(document((ALPHA,), (at(host.url),)), max_bytes=1)
        await stage.post(ROUTE, ASK)  # one byte is over the limit from here on
        served = host.state()["totals"]["served"]
        for path, body in ((SELECT, {"taskType": "code"}), (ROUTE, ASK), (CHAT, TALK)):
            heard = await stage.post(path, body)
            assert (heard.status, heard.headers["retry-after"]) == (503, "1")
            assert b"spool is full" in heard.body
        assert host.state()["totals"]["served"] == served
        assert (await stage.get(MODELS)).status == 200

    @pytest.mark.parametrize("stream", [False, True])
    async def test_an_answer_whose_record_cannot_be_kept_is_not_given(
        self, stage: Stage, stream: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage.runtime.recorder.close()
        heard = await stage.post(CHAT, {**TALK, "stream": stream})
        if stream:
            assert heard.events[-1]["error"]["code"] == "not_ready"
            assert "[DONE]" not in heard.events
        else:
            assert heard.status == 503
        # Where the spool lies is for operators.
        assert str(stage.spool).encode() not in b"".join(heard.chunks)
        assert str(stage.spool) in caplog.text
        assert stage.quiet()


async def test_no_work_is_taken_before_a_policy_is_there(set_stage: SetStage) -> None:
    stage = await set_stage()
    stage.runtime.ready = False
    for path, body in ((SELECT, {"taskType": "code"}), (ROUTE, ASK), (CHAT, TALK)):
        assert (await stage.post(path, body)).status == 503
    assert (await stage.get(MODELS)).status == 503


class TestPlanted:
    """Prompts, answers and keys are nowhere but with the caller and the upstream."""

    @pytest.fixture(params=["ollama", "openai"])
    async def keyed(
        self, request: pytest.FixtureRequest, set_stage: SetStage, host: SimulatedHost
    ) -> Stage:
        place = at(host.url, provider=request.param, api_key_ref="env:PLANTED")
        policy = document((ALPHA, BETA, VECTORS), (place,))
        made: Stage = await set_stage(policy, resolve=lambda ref: SECRET_KEY)
        return made

    @pytest.mark.parametrize(
        "fault",
        [
            {},
            {"kind": "http_error", "status": 400},
            {"kind": "http_error", "status": 401},
            {"kind": "http_error", "status": 500},
            {"kind": "http_error", "status": 404},
            {"kind": "error_line"},
            {"kind": "html", "body": f"<p>{SECRET_PROMPT} {SECRET_KEY}</p>"},
        ],
        ids=lambda fault: "-".join(str(v)[:10] for v in fault.values()) or "none",
    )
    @pytest.mark.parametrize("stream", [False, True])
    async def test_an_upstream_that_quotes_both(
        self,
        keyed: Stage,
        host: SimulatedHost,
        fault: dict[str, Any],
        stream: bool,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        if fault:
            told = {"message": f"{SECRET_KEY} may not say {SECRET_PROMPT}", **fault}
            host.fail(**told)
        answers = [
            await keyed.post(ROUTE, ASK),
            await keyed.post(CHAT, {**TALK, "stream": stream}),
        ]
        spooled = b"".join(f.read_bytes() for f in keyed.spool.rglob("*") if f.is_file())
        records = keyed.records()
        assert len(records) == 2
        for kept in (spooled.decode("latin-1"), repr(records), caplog.text):
            assert SECRET_PROMPT not in kept
            assert SECRET_KEY not in kept
        for heard in answers:
            assert SECRET_KEY not in heard.body.decode() + str(heard.headers)

    async def test_an_answer_is_not_kept(self, keyed: Stage) -> None:
        told = (await keyed.post(ROUTE, ASK)).json
        assert count_tokens(told["response"]) > 3
        packed = msgpack.encode(keyed.record())
        assert told["response"].encode() not in packed

    def test_no_repr_shows_a_key(self, keyed: Stage) -> None:
        provider = keyed.runtime.provider(keyed.runtime.policy.candidates[0])
        assert SECRET_KEY not in repr(provider) + repr(vars(provider)) + repr(keyed.runtime)

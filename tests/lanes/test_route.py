"""POST route-request: its contract, its failover and its records, over a simulated Ollama."""

import json
import uuid
from typing import Any

import pytest
from msgspec.structs import replace

from routing.engine.catalog import DEFAULT_PROFILES, OfferingSpec
from routing.lanes import limits
from tests.cast import ALPHA, BETA, document, priced
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import ROUTE, SetStage, Stage, at
from tests.providers.upstream import answer, upstream

PROMPT = "Say hello to everybody."
HELLO = {"taskType": "completion", "prompt": PROMPT}
FULL = {
    **HELLO,
    "requirements": {
        "maxTokens": 5,
        "priority": "high",
        "temperature": 0.2,
        "complexity": "complex",
        "qualityRequirement": "high",
        "costLimit": 1,
    },
    "retryAttempts": 2,
    "explain": True,
}


async def test_the_answer_has_every_field_of_the_contract(stage: Stage) -> None:
    heard = await stage.post(ROUTE, FULL)
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json")
    told = heard.json
    assert uuid.UUID(told["requestId"]).version == 7
    assert (told["selectedModel"], told["endpoint"]) == ("alpha:1b", "sim")
    assert told["response"]
    assert (told["fallbackUsed"], told["degraded"]) == (False, False)
    metrics = told["metrics"]
    assert metrics.keys() == {
        "responseTimeMs", "memoryPressure", "modelUsed", "tokensGenerated", "promptTokens",
    }  # fmt: skip
    assert (metrics["modelUsed"], metrics["tokensGenerated"]) == ("alpha:1b", 5)
    assert metrics["promptTokens"] > 1
    assert told["finishReason"] == "length"
    assert len(told["explanation"]) == 3


async def test_a_prompt_alone_is_enough(stage: Stage) -> None:
    told = (await stage.post(ROUTE, HELLO)).json
    assert (told["metrics"]["tokensGenerated"], told["finishReason"]) == (8, "stop")
    assert "explanation" not in told


async def test_its_record(stage: Stage) -> None:
    told = (await stage.post(ROUTE, FULL)).json
    record = stage.record()
    assert record.request_id == told["requestId"]
    assert (record.kind, record.priority, record.status) == ("route", "high", 200)
    assert (record.selected_model, record.endpoint) == ("alpha:1b", "sim")
    assert (record.completion_tokens, record.usage_estimated) == (5, False)
    assert record.prompt_tokens == told["metrics"]["promptTokens"]
    assert (record.cost_known, record.cost_nusd) == (True, 0)
    assert [(a.model, a.endpoint, a.error_type) for a in record.attempts] == [
        ("alpha:1b", "sim", "")
    ]
    assert record.stream is False
    assert stage.quiet()


async def test_an_answer_is_billed_at_the_price_of_who_gave_it(
    set_stage: SetStage, host: SimulatedHost
) -> None:
    stage = await set_stage(document((priced(ALPHA, "0.5"),), (at(host.url),)))
    told = (await stage.post(ROUTE, FULL)).json
    tokens = told["metrics"]["promptTokens"] + told["metrics"]["tokensGenerated"]
    assert told["costUsd"] == pytest.approx(tokens * 0.0005)
    assert stage.record().cost_nusd == tokens * 500_000


@pytest.mark.parametrize(
    ("price", "wish", "limit"),
    [
        ("0.001", {"costLimit": 1}, 512),
        ("0.001", {"costLimit": 1, "maxTokens": 600}, 600),
        ("0.001", {}, None),
        ("0", {"costLimit": 1}, None),
    ],
)
async def test_an_answer_is_no_longer_than_its_cost_limit_was_reckoned_for(
    set_stage: SetStage, price: str, wish: dict[str, Any], limit: int | None
) -> None:
    async with upstream(answer(b'{"response": "Hi", "done": true}')) as server:
        stage = await set_stage(document((priced(ALPHA, price),), (at(server.url),)))
        assert (await stage.post(ROUTE, {**HELLO, "requirements": wish})).status == 200
    assert server.asked[0].body.get("options", {}).get("num_predict") == limit


async def test_an_unknown_price_is_not_billed_as_nothing(
    set_stage: SetStage, host: SimulatedHost
) -> None:
    stage = await set_stage(document((priced(ALPHA, None),), (at(host.url),)))
    assert "costUsd" not in (await stage.post(ROUTE, HELLO)).json
    assert stage.record().cost_known is False


async def test_an_embedding_comes_as_a_vector_and_as_text(stage: Stage) -> None:
    told = (await stage.post(ROUTE, {"taskType": "embedding", "prompt": PROMPT})).json
    assert told["selectedModel"] == "vectors:1b"
    assert json.loads(told["response"]) == told["embedding"]
    assert len(told["embedding"]) == 64
    record = stage.record()
    assert (record.kind, record.task_type, record.completion_tokens) == ("embed", "embedding", 0)


async def test_pinned_load_options_reach_the_engine(
    set_stage: SetStage, host: SimulatedHost
) -> None:
    pinned = OfferingSpec(model="alpha:1b", endpoint="sim", num_ctx=1234, keep_alive="7m")
    stage = await set_stage(document((ALPHA,), (at(host.url),), offerings=(pinned,)))
    await stage.post(ROUTE, HELLO)
    assert host.state()["loaded"][0]["num_ctx"] == 1234


class TestFailover:
    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "http_error", "status": 500},
            {"kind": "http_error", "status": 404, "message": "model 'alpha:1b' not found"},
            {"kind": "http_error", "status": 429, "retry_after_s": 30},
            {"kind": "http_error", "status": 401},
            {"kind": "html"},
            {"kind": "malformed_json"},
            {"kind": "error_line"},
            {"kind": "short_body"},
            {"kind": "reset"},
            {"kind": "cut"},
        ],
        ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
    )
    async def test_no_failure_that_another_model_can_absorb_is_seen(
        self, stage: Stage, host: SimulatedHost, fault: dict[str, Any]
    ) -> None:
        host.fail(fault.pop("kind"), model="alpha:1b", **fault)
        heard = await stage.post(ROUTE, HELLO)
        told = heard.json
        assert (heard.status, told["selectedModel"]) == (200, "beta:1b")
        assert (told["fallbackUsed"], told["metrics"]["modelUsed"]) == (True, "beta:1b")
        assert told["reason"].startswith("alpha:1b@sim failed (upstream_")
        record = stage.record()
        assert (record.chosen_model, record.selected_model) == ("alpha:1b", "beta:1b")
        assert (record.success, record.fallback_used) == (True, True)
        assert record.attempts[-1].error_type == ""
        assert all(a.error_type.startswith("upstream_") for a in record.attempts[:-1])
        assert stage.quiet()

    async def test_a_silent_model_is_left(
        self, stage: Stage, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "FIRST_TOKEN_S", 0.2)
        monkeypatch.setattr(limits, "SLOW_ANSWER_FACTOR", 0.0)
        host.fail("silence", model="alpha:1b")
        told = (await stage.post(ROUTE, HELLO)).json
        assert told["selectedModel"] == "beta:1b"
        attempts = [(a.model, a.error_type) for a in stage.record().attempts]
        assert attempts == [("alpha:1b", "upstream_timeout"), ("beta:1b", "")]

    async def test_a_stumble_is_asked_again_at_the_same_place(
        self, stage: Stage, host: SimulatedHost
    ) -> None:
        host.fail("http_error", count=1, status=503)
        told = (await stage.post(ROUTE, HELLO)).json
        assert (told["selectedModel"], told["fallbackUsed"]) == ("alpha:1b", False)
        assert len(stage.record().attempts) == 2

    @pytest.mark.parametrize("retries", [0, 1, 2])
    async def test_retry_attempts_bound_the_further_attempts(
        self, stage: Stage, host: SimulatedHost, retries: int
    ) -> None:
        host.fail("http_error", status=500)
        heard = await stage.post(ROUTE, {**HELLO, "retryAttempts": retries})
        assert heard.status == 502
        assert len(stage.record().attempts) == 1 + retries

    async def test_when_everybody_fails_each_is_named(
        self, stage: Stage, host: SimulatedHost
    ) -> None:
        host.fail("http_error", status=500)
        heard = await stage.post(ROUTE, HELLO)
        assert (heard.status, heard.json["code"]) == (502, "all_attempts_failed")
        assert {c["model"] for c in heard.json["candidates"]} == {"alpha:1b", "beta:1b"}
        record = stage.record()
        assert (record.success, record.status) == (False, 502)
        assert record.error_type == "all_attempts_failed"
        assert stage.quiet()

    async def test_when_everybody_is_busy_the_soonest_return_is_named(
        self, stage: Stage, host: SimulatedHost
    ) -> None:
        host.fail("http_error", status=429, retry_after_s=17)
        heard = await stage.post(ROUTE, HELLO)
        assert (heard.status, heard.headers["retry-after"]) == (503, "17")
        heard = await stage.post(ROUTE, HELLO)
        assert (heard.status, heard.json["code"]) == (503, "no_model_available")
        assert int(heard.headers["retry-after"]) in (16, 17)

    async def test_a_request_at_fault_is_not_tried_everywhere(
        self, stage: Stage, host: SimulatedHost
    ) -> None:
        host.fail("http_error", status=400, message="temperature is too hot")
        heard = await stage.post(ROUTE, HELLO)
        assert (heard.status, heard.json["code"]) == (400, "upstream_refused")
        assert "temperature is too hot" in heard.json["detail"]
        assert len(stage.record().attempts) == 2
        # Its own fault says nothing about the models.
        host.recover()
        assert (await stage.post(ROUTE, HELLO)).json["selectedModel"] == "alpha:1b"

    async def test_five_failures_keep_a_model_from_being_asked(
        self, stage: Stage, host: SimulatedHost
    ) -> None:
        host.fail("malformed_json", model="alpha:1b")
        for _ in range(5):
            await stage.post(ROUTE, HELLO)
        stage.records()
        told = (await stage.post(ROUTE, HELLO)).json
        assert (told["selectedModel"], told["fallbackUsed"]) == ("beta:1b", False)
        assert len(stage.record().attempts) == 1

    async def test_an_endpoint_that_nobody_serves_is_passed_over(
        self, set_stage: SetStage, host: SimulatedHost
    ) -> None:
        places = (at("http://127.0.0.1:1", name="dead"), at(host.url))
        stage = await set_stage(document((ALPHA,), places))
        told = (await stage.post(ROUTE, HELLO)).json
        assert (told["endpoint"], told["fallbackUsed"]) == ("sim", True)
        assert stage.record().attempts[0].error_type == "upstream_unreachable"

    async def test_an_endpoint_without_its_key_is_passed_over(
        self, set_stage: SetStage, host: SimulatedHost
    ) -> None:
        def no_key(ref: str) -> str:
            raise LookupError("unset")

        places = (at(host.url, name="keyed", api_key_ref="env:NONE"), at(host.url))
        stage = await set_stage(document((ALPHA,), places), resolve=no_key)
        assert (await stage.post(ROUTE, HELLO)).json["endpoint"] == "sim"
        assert stage.record().attempts[0].error_type == "upstream_misconfigured"

    async def test_a_new_policy_in_the_middle_of_a_request(
        self, stage: Stage, host: SimulatedHost
    ) -> None:
        """The first attempt fails after the offerings were renumbered."""
        host.fail("http_error", model="alpha:1b", status=404)
        fewer = document((BETA,), (at(host.url),))
        provider = stage.runtime.provider

        def provider_then_adopt(candidate: Any) -> Any:
            found = provider(candidate)
            if candidate.model_name == "alpha:1b":
                stage.runtime.adopt(fewer)
            return found

        stage.runtime.provider = provider_then_adopt  # type: ignore[method-assign]
        heard = await stage.post(ROUTE, HELLO)
        assert (heard.status, heard.json["selectedModel"]) == (200, "beta:1b")


class TestDeadline:
    @pytest.fixture
    async def hasty(self, set_stage: SetStage, host: SimulatedHost) -> Stage:
        profile = replace(DEFAULT_PROFILES[1], deadline_ms=300)
        policy = document((ALPHA, BETA), (at(host.url),), profiles=(profile,))
        made: Stage = await set_stage(policy)
        return made

    async def test_it_ends_a_request_that_nobody_answers(
        self, hasty: Stage, host: SimulatedHost
    ) -> None:
        host.fail("silence")
        heard = await hasty.post(ROUTE, HELLO)
        assert (heard.status, heard.json["code"]) == (504, "deadline_exceeded")
        assert "300 ms" in heard.json["detail"]
        record = hasty.record()
        assert (record.status, record.error_type) == (504, "deadline_exceeded")
        assert 300 <= record.response_time_ms < 2000
        assert hasty.quiet()

    async def test_a_model_is_not_blamed_for_a_deadline_shorter_than_its_answers(
        self, hasty: Stage, host: SimulatedHost
    ) -> None:
        host.fail("silence")
        for _ in range(5):
            await hasty.post(ROUTE, HELLO)
        assert hasty.runtime.state.offerings["alpha:1b@sim"].breaker.state == "closed"
        assert hasty.runtime.state.offerings["alpha:1b@sim"].success_rate == 1.0


async def test_a_fault_of_ours_is_a_problem_document_and_is_recorded(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(candidate: Any) -> Any:
        raise RuntimeError("a bug")

    stage.runtime.provider = broken  # type: ignore[method-assign]
    heard = await stage.post(ROUTE, HELLO)
    assert (heard.status, heard.json["code"]) == (500, "internal_error")
    assert "a bug" not in heard.body.decode()
    assert "a bug" in caplog.text
    record = stage.record()
    assert (record.status, record.error_type) == (500, "internal_error")
    assert stage.quiet()

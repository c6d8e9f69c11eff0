"""POST select-model: its contract, field by field."""

import uuid
from typing import Any

import pytest
from msgspec.structs import replace

from tests.cast import CLOUD, CODER, EVERYBODY, HERE, SAGE, document, model, priced
from tests.lanes.stage import SELECT, SetStage, Stage

FULL = {
    "taskType": "completion",
    "requirements": {
        "complexity": "moderate",
        "priority": "normal",
        "maxTokens": 100,
        "costLimit": 0.5,
        "qualityRequirement": "good",
    },
}


async def test_the_answer_has_every_field_of_the_contract(quiet_stage: Stage) -> None:
    heard = await quiet_stage.post(SELECT, FULL)
    assert heard.status == 200
    assert heard.headers["content-type"] == "application/json"
    told = heard.json
    assert uuid.UUID(told.pop("requestId")).version == 7
    assert told.pop("reason").startswith("score 0.")
    assert told == {
        "selectedModel": "sage",
        "taskType": "completion",
        "fallbackUsed": False,
        "alternatives": ["coder", "plain"],
        "systemMetrics": {"memoryPressure": 0.25, "availableMemoryGb": 48.0, "cpuUsage": 12.5},
        "modelInfo": {
            "capabilities": ["completion", "reasoning", "analysis"],
            "speed": "slow",
            "quality_tier": "exceptional",
        },
        "endpoint": "cloud",
        "degraded": False,
        "simulated": False,
    }


async def test_a_task_alone_is_enough(quiet_stage: Stage) -> None:
    for task in ("completion", "reasoning", "code", "embedding", "analysis"):
        heard = await quiet_stage.post(SELECT, {"taskType": task})
        assert (heard.status, heard.json["taskType"]) == (200, task)


@pytest.mark.parametrize(
    ("requirements", "chosen"),
    [
        ({"priority": "low"}, "coder"),
        ({"priority": "low", "qualityRequirement": "exceptional"}, "sage"),
        ({"priority": "low", "complexity": "complex", "qualityRequirement": "basic"}, "coder"),
        ({"priority": "critical"}, "sage"),
        ({}, "sage"),
        (None, "sage"),
    ],
)
async def test_requirements_move_the_choice(
    quiet_stage: Stage, requirements: Any, chosen: str
) -> None:
    heard = await quiet_stage.post(SELECT, {"taskType": "analysis", "requirements": requirements})
    assert heard.json["selectedModel"] == chosen


async def test_a_relaxed_floor_is_said(set_stage: SetStage) -> None:
    stage = await set_stage(document((model("only", "basic"),)))
    wish = {"taskType": "completion", "requirements": {"qualityRequirement": "high"}}
    told = (await stage.post(SELECT, wish)).json
    assert (told["fallbackUsed"], told["degraded"]) == (True, True)
    assert "quality floor relaxed" in told["reason"]


async def test_explain_lists_every_offering_with_scores_or_a_reason(quiet_stage: Stage) -> None:
    quiet_stage.trip("coder@cloud")
    told = (await quiet_stage.post(SELECT, {"taskType": "completion", "explain": True})).json
    rows = {row["model"]: row for row in told["explanation"]}
    assert rows.keys() == {m.name for m in EVERYBODY}
    assert told["explanation"][0]["model"] == told["selectedModel"]
    assert rows["coder"]["rejected"] == "breaker_open"
    assert rows["embed"]["rejected"] == "capability"
    assert all(
        0 <= share <= 1
        for name, share in rows["plain"]["scores"].items()
        if not name.endswith("Ms")
    )


async def test_a_simulated_endpoint_is_marked(set_stage: SetStage) -> None:
    stage = await set_stage(document((SAGE,), (HERE,)))
    assert (await stage.post(SELECT, {"taskType": "completion"})).json["simulated"] is True


async def test_its_record(quiet_stage: Stage) -> None:
    heard = await quiet_stage.post(SELECT, FULL)
    record = quiet_stage.record()
    assert record.request_id == heard.json["requestId"]
    assert uuid.UUID(bytes=record.id) == uuid.UUID(record.request_id)
    assert (record.kind, record.task_type, record.priority) == ("select", "completion", "normal")
    assert (record.selected_model, record.endpoint) == ("sage", "cloud")
    assert record.chosen_model == "sage"
    assert (record.success, record.status, record.error_type) == (True, 200, "")
    assert (record.worker, record.resource_pressure) == ("web-0", 0.25)
    assert (record.attempts, record.stream, record.cost_limit_nusd) == ((), False, 500_000_000)
    assert record.reason == heard.json["reason"]


class TestNobody:
    async def test_no_model_for_the_task_is_503_with_every_reason(
        self, set_stage: SetStage
    ) -> None:
        stage = await set_stage(document((CODER, SAGE), (CLOUD,)))
        stage.trip("coder@cloud")
        stage.runtime.state.model_health("sage", "", healthy=False)
        heard = await stage.post(SELECT, {"taskType": "completion"})
        assert (heard.status, heard.headers["content-type"]) == (503, "application/problem+json")
        assert (heard.json["code"], heard.json["status"]) == ("no_model_available", 503)
        assert {c["model"]: c["reason"] for c in heard.json["candidates"]} == {
            "coder": "breaker_open",
            "sage": "unhealthy",
        }
        assert 1 <= int(heard.headers["retry-after"]) <= 15
        record = stage.record()
        assert (record.success, record.status, record.error_type) == (
            False,
            503,
            "no_model_available",
        )
        assert record.request_id == heard.json["requestId"]

    async def test_an_empty_catalogue_says_what_to_do(self, set_stage: SetStage) -> None:
        stage = await set_stage(document(()))
        heard = await stage.post(SELECT, {"taskType": "completion"})
        assert heard.status == 503
        assert "Add one in the admin" in heard.json["detail"]

    @pytest.mark.parametrize("price", ["1", None])
    async def test_a_cost_limit_below_every_model_is_402(
        self, set_stage: SetStage, price: str | None
    ) -> None:
        stage = await set_stage(document((priced(SAGE, price), priced(CODER, price))))
        wish = {"costLimit": 0.000001, "qualityRequirement": "exceptional"}
        heard = await stage.post(SELECT, {"taskType": "completion", "requirements": wish})
        assert (heard.status, heard.json["code"]) == (402, "cost_limit_exceeded")
        assert heard.json["errors"][0]["pointer"] == "/requirements/costLimit"

    async def test_what_fits_no_context_is_422(self, set_stage: SetStage) -> None:
        stage = await set_stage(document((SAGE, replace(CODER, context_length=100))))
        wish = {"taskType": "completion", "requirements": {"maxTokens": 10_000}}
        heard = await stage.post(SELECT, wish)
        assert (heard.status, heard.json["code"]) == (422, "context_length_exceeded")

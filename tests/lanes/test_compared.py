"""What a record says of the baseline: what the same tokens would have cost there."""

import msgspec

from routing.engine.catalog import SavingsSpec
from tests.cast import ALPHA, BETA, VECTORS, document, priced
from tests.fixtures_engines import SimulatedHost
from tests.lanes.stage import CHAT, ROUTE, SELECT, SetStage, Stage, at

CHEAP, DEAR = priced(BETA, "0.001"), priced(ALPHA, "0.01")
# Low priority asks for thrift.
ASK = {"taskType": "completion", "prompt": "Hello there", "requirements": {"priority": "low"}}
TALK = {"model": "beta:1b", "messages": [{"role": "user", "content": "Hello there"}]}


async def staged(set_stage: SetStage, host: SimulatedHost, baseline: str = "") -> Stage:
    spec = document((CHEAP, DEAR, VECTORS), (at(host.url),))
    made: Stage = await set_stage(
        msgspec.structs.replace(spec, savings=SavingsSpec(baseline=baseline))
    )
    return made


async def test_the_same_tokens_at_the_baseline(set_stage: SetStage, host: SimulatedHost) -> None:
    stage = await staged(set_stage, host, "alpha:1b")
    await stage.post(CHAT, TALK)
    record = stage.record()
    tokens = record.prompt_tokens + record.completion_tokens
    assert record.selected_model == "beta:1b"
    assert record.cost_nusd == tokens * 1_000
    assert (record.baseline_model, record.baseline_known) == ("alpha:1b", True)
    assert record.baseline_nusd == tokens * 10_000
    assert not record.usage_estimated


async def test_savings_may_be_negative(set_stage: SetStage, host: SimulatedHost) -> None:
    stage = await staged(set_stage, host, "beta:1b")
    await stage.post(CHAT, {**TALK, "model": "alpha:1b"})
    record = stage.record()
    assert record.baseline_nusd * 10 == record.cost_nusd > 0


async def test_without_a_named_one_it_is_the_first_that_is_available(
    set_stage: SetStage, host: SimulatedHost
) -> None:
    stage = await staged(set_stage, host)
    await stage.post(CHAT, TALK)
    stage.trip("alpha:1b@sim")
    await stage.post(CHAT, {**TALK, "stream": True})
    await stage.post(ROUTE, {"taskType": "embedding", "prompt": "Hello"})
    compared = [(r.baseline_model, r.baseline_known) for r in stage.records()]
    assert compared == [("alpha:1b", True), ("beta:1b", True), ("vectors:1b", True)]


async def test_an_unknown_price_is_not_known(set_stage: SetStage, host: SimulatedHost) -> None:
    stage = await staged(set_stage, host, "gpt-of-elsewhere")
    await stage.post(ROUTE, ASK)
    record = stage.record()
    assert record.prompt_tokens > 0
    assert record.baseline_model == "gpt-of-elsewhere"
    assert (record.baseline_nusd, record.baseline_known) == (0, False)


async def test_what_used_no_tokens_is_not_compared(
    set_stage: SetStage, host: SimulatedHost
) -> None:
    stage = await staged(set_stage, host)
    await stage.post(SELECT, {"taskType": "completion"})
    host.fail("html")
    await stage.post(ROUTE, ASK)
    compared = [(r.baseline_model, r.baseline_known) for r in stage.records()]
    assert compared == [("", False), ("", False)]

"""Limits on every lane: what passes, what is refused and how, and what each answer tells of it."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.cast import ALPHA, BETA, CHAIN, VECTORS, document
from tests.fixtures_engines import SimulatedHost
from tests.lanes.limited import CI, FREE, OTHER, headers, known, limited, post
from tests.lanes.stage import CHAT, MODELS, ROUTE, SELECT, SetStage, Stage, at

ASK = {"taskType": "completion", "prompt": "Why is the sky blue?"}
TALK = {"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
EACH = [(SELECT, {"taskType": "completion"}), (ROUTE, ASK), (CHAT, TALK)]
STREAMED = [(ROUTE, ASK | {"stream": True}), (CHAT, TALK | {"stream": True})]

Limited = Callable[..., Awaitable[Stage]]


@pytest.fixture
def set_limited(set_stage: SetStage, host: SimulatedHost) -> Limited:
    async def start(**limits: Any) -> Stage:
        policy = document((ALPHA, BETA, VECTORS), (at(host.url),), chains=(CHAIN,))
        return known(await set_stage(limited(policy, **limits)))

    return start


@pytest.mark.parametrize(("path", "body"), [*EACH, *STREAMED])
async def test_what_is_beyond_a_limit_is_refused_and_recorded(
    set_limited: Limited, host: SimulatedHost, path: str, body: Any
) -> None:
    stage = await set_limited(requests_per_minute=2)
    for _ in range(2):
        assert (await post(stage, path, body)).status == 200
    stage.records()
    served = host.state()["totals"]["served"]
    heard = await post(stage, path, body)
    assert heard.status == 429
    assert 1 <= int(heard.headers["retry-after"]) <= 30
    assert heard.headers["ratelimit-limit"] == "2"
    assert heard.headers["ratelimit-remaining"] == "0"
    record = stage.record()
    assert (record.status, record.error_type) == (429, "rate_limit_exceeded")
    assert (record.tenant, record.key) == ("acme", "ci")
    assert (record.attempts, record.cost_nusd) == ((), 0)
    assert host.state()["totals"]["served"] == served


async def test_a_problem_names_the_limit_whose_it_is_and_when_to_come_back(
    set_limited: Limited,
) -> None:
    stage = await set_limited(tenant={"requests_per_day": 1})
    await post(stage, SELECT, {"taskType": "completion"}, OTHER)
    heard = await post(stage, SELECT, {"taskType": "completion"})
    assert heard.json["code"] == "rate_limit_exceeded"
    assert heard.json["limit"] == {
        "name": "requests_per_day", "of": "tenant", "owner": "acme", "most": 1,
    }  # fmt: skip
    wait = heard.headers["retry-after"]
    said = f"The tenant 'acme' may make 1 requests a day, and has. Come back in {wait} s."
    assert heard.json["detail"] == said


@pytest.mark.parametrize(
    ("limits", "kind"),
    [({"requests_per_minute": 1}, "requests"), ({"tokens_per_minute": 1}, "tokens")],
)
async def test_openai_clients_are_told_in_their_words(
    set_limited: Limited, limits: dict[str, int], kind: str
) -> None:
    stage = await set_limited(**limits)
    first = await post(stage, CHAT, TALK)
    assert first.headers[f"x-ratelimit-limit-{kind}"] == "1"
    assert first.headers[f"x-ratelimit-remaining-{kind}"] == "0"
    heard = await post(stage, CHAT, TALK)
    error = heard.json["error"]
    assert (error["type"], error["code"]) == (kind, "rate_limit_exceeded")
    assert heard.headers[f"x-ratelimit-reset-{kind}"]
    assert heard.headers["retry-after"]


async def test_every_answer_tells_what_is_left(set_limited: Limited) -> None:
    stage = await set_limited(requests_per_minute=100, tenant={"requests_per_day": 50})
    for i, (path, body) in enumerate([*EACH, *STREAMED], 1):
        heard = await post(stage, path, body)
        assert heard.headers["ratelimit-limit"] == "50"
        assert heard.headers["ratelimit-remaining"] == str(50 - i)
        assert heard.headers["ratelimit-policy"] == "100;w=60, 50;w=86400"
        assert int(heard.headers["ratelimit-reset"]) > 0
    models = await stage.send(MODELS, method="GET", headers=headers(CI))
    assert models.headers["ratelimit-remaining"] == "45"
    wrong = await post(stage, ROUTE, {"taskType": "nonsense"})
    assert wrong.status == 400
    assert wrong.headers["ratelimit-remaining"] == "45"


async def test_who_has_no_limits_is_told_nothing(set_limited: Limited) -> None:
    stage = await set_limited(requests_per_minute=1)
    for path, body in EACH:
        heard = await post(stage, path, body, FREE)
        assert heard.status == 200
        assert not [name for name in heard.headers if "ratelimit" in name]
    assert not stage.runtime.tolls.passage("free", "free")


async def test_tokens_are_settled_by_what_was_used(set_limited: Limited) -> None:
    stage = await set_limited(tokens_per_minute=10_000)
    heard = await post(stage, CHAT, TALK)
    used = heard.json["usage"]["total_tokens"]
    # Some come in while the answer is made.
    assert 0 <= int(heard.headers["x-ratelimit-remaining-tokens"]) - (10_000 - used) < 100


async def test_who_used_more_than_estimated_waits_until_it_is_repaid(
    set_limited: Limited,
) -> None:
    stage = await set_limited(tokens_per_minute=60)
    await post(stage, CHAT, TALK | {"max_tokens": 1})
    passage = stage.runtime.tolls.passage("acme", "ci")
    assert passage is not None
    toll = await stage.runtime.tolls.enter("acme", "ci", 5, stream=False)
    assert toll is not None
    toll.settle(5, 200)
    heard = await post(stage, CHAT, TALK | {"max_tokens": 1})
    assert heard.status == 429
    assert int(heard.headers["retry-after"]) > 100


async def test_nothing_is_charged_for_tokens_of_a_failure(
    set_limited: Limited, host: SimulatedHost
) -> None:
    stage = await set_limited(tokens_per_minute=10_000)
    host.fail("http_error", status=500)
    heard = await post(stage, CHAT, TALK)
    assert heard.status >= 500
    assert heard.headers["x-ratelimit-remaining-tokens"] == "10000"


@pytest.mark.parametrize(("path", "body"), STREAMED)
async def test_streams_are_permits_that_come_back(
    set_limited: Limited, path: str, body: Any
) -> None:
    stage = await set_limited(concurrent_streams=1)
    toll = await stage.runtime.tolls.enter("acme", "ci", 0, stream=True)
    refused = await post(stage, path, body)
    assert refused.status == 429
    assert refused.headers["retry-after"] == "1"
    assert (await post(stage, path, body | {"stream": False})).status == 200
    assert toll is not None
    toll.settle(0, 0)
    for _ in range(3):
        assert (await post(stage, path, body)).status == 200

"""What a worker takes from news and policies, and what it holds on to."""

import time
from typing import Any

import pytest
from msgspec.structs import replace

from routing.lanes.runtime import LOCAL_HOST
from telemetry.state_news import BreakerNews, EndpointNews, HostNews, ModelHealthNews
from tests.cast import CLOUD, HERE, PLAIN, SAGE, document, model
from tests.lanes.stage import SELECT, SetStage, Stage, at

CODE = {"taskType": "completion"}
LARGE = model("large", "exceptional", ram_required_gb=40)
FAR = at("http://127.0.0.1:1", name="far", host="elsewhere")


async def chosen(stage: Stage) -> Any:
    """Return the model that would answer, or the reasons why none would."""
    told = (await stage.post(SELECT, CODE)).json
    return told.get("selectedModel") or {c["model"]: c["reason"] for c in told["candidates"]}


class TestNews:
    @pytest.fixture
    async def stage(self, set_stage: SetStage) -> Stage:
        made: Stage = await set_stage(document((PLAIN,), (CLOUD,)))
        return made

    async def test_an_endpoint_goes_down_and_comes_back(self, stage: Stage) -> None:
        stage.runtime.hear(EndpointNews("cloud", up=False, at=1.0))
        assert await chosen(stage) == {"plain": "endpoint_down"}
        stage.runtime.hear(EndpointNews("cloud", up=True, at=2.0, available=("other",)))
        assert await chosen(stage) == {"plain": "not_offered"}
        stage.runtime.hear(EndpointNews("cloud", up=True, at=3.0, available=("plain:latest",)))
        assert await chosen(stage) == "plain"

    async def test_what_a_simulator_says_is_marked(self, stage: Stage) -> None:
        stage.runtime.hear(EndpointNews("cloud", up=True, at=1.0, simulated=True))
        assert (await stage.post(SELECT, CODE)).json["simulated"] is True
        assert stage.record().simulated is True

    async def test_a_model_is_reported_unfit(self, stage: Stage) -> None:
        stage.runtime.hear(ModelHealthNews("plain", healthy=False, at=1.0))
        assert await chosen(stage) == {"plain": "unhealthy"}
        stage.runtime.hear(ModelHealthNews("plain", healthy=True, at=2.0))
        assert await chosen(stage) == "plain"

    async def test_another_worker_opens_and_closes_a_breaker(self, stage: Stage) -> None:
        news = BreakerNews("plain@cloud", "open", at=time.time(), worker="web-1")
        stage.runtime.hear(replace(news, open_until=time.time() + 60))
        assert await chosen(stage) == {"plain": "breaker_open"}
        stage.runtime.hear(replace(news, state="closed", generation=time.time()))
        assert await chosen(stage) == "plain"

    async def test_a_server_that_listens_again_is_tried_at_once(self, stage: Stage) -> None:
        opened = BreakerNews("plain@cloud", "open", at=time.time(), worker="web-1", openings=1)
        opened = replace(opened, open_until=time.time() + 60, reason="upstream_unreachable")
        told: list[BreakerNews] = []
        stage.runtime.breaker_news = told.append
        stage.runtime.hear(opened)
        stage.runtime.hear(EndpointNews("cloud", up=True, at=time.time() - 1))
        assert await chosen(stage) == {"plain": "breaker_open"}
        stage.runtime.hear(EndpointNews("cloud", up=True, at=time.time() + 0.01))
        assert await chosen(stage) == "plain"
        assert [(news.state, news.openings) for news in told] == [("open", 1)]

    async def test_who_said_when_to_come_back_is_not_tried_before(self, stage: Stage) -> None:
        opened = BreakerNews("plain@cloud", "open", at=time.time(), worker="web-1", openings=1)
        stage.runtime.hear(replace(opened, open_until=time.time() + 60, reason="upstream_busy"))
        stage.runtime.hear(EndpointNews("cloud", up=True, at=time.time() + 0.01))
        assert await chosen(stage) == {"plain": "breaker_open"}

    async def test_an_opening_heard_after_the_closing_that_ended_it_is_void(
        self, stage: Stage
    ) -> None:
        opened = BreakerNews("plain@cloud", "open", 1.0, time.time() + 60, worker="web-1")
        stage.runtime.hear(replace(opened, state="closed", generation=2.0))
        stage.runtime.hear(opened)
        assert await chosen(stage) == "plain"

    async def test_workers_of_one_name_hear_each_other(self, stage: Stage) -> None:
        """Every node has a `web-0`."""
        opened = BreakerNews("plain@cloud", "open", 1.0, time.time() + 60, worker="web-0")
        stage.runtime.hear(opened)
        assert await chosen(stage) == {"plain": "breaker_open"}

    async def test_openings_heard_of_lengthen_the_next_one(self, stage: Stage) -> None:
        past = time.time() - 1
        stage.runtime.hear(BreakerNews("plain@cloud", "open", past, past, "web-1", 0.0, 3))
        breaker, now = stage.runtime.state.offerings["plain@cloud"].breaker, stage.runtime.clock()
        assert breaker.begin(now)
        breaker.fail(now, began=now)
        assert breaker.open_until == now + 15 * 2**3

    async def test_news_of_what_it_does_not_know_are_harmless(self, stage: Stage) -> None:
        stage.runtime.hear(BreakerNews("gone@cloud", "open", 1.0, 2.0, worker="web-1"))
        stage.runtime.hear(EndpointNews("gone", up=False, at=1.0))
        stage.runtime.hear(ModelHealthNews("gone", healthy=False, at=1.0))
        assert await chosen(stage) == "plain"

    async def test_a_breaker_that_changes_here_is_told(self, stage: Stage) -> None:
        told: list[BreakerNews] = []
        stage.runtime.breaker_news = told.append
        ask = {**CODE, "prompt": "Hello", "retryAttempts": 0}
        for _ in range(5):
            await stage.post("/api/v1/ai/route-request", ask)
        (news,) = told
        assert (news.offering, news.state, news.openings) == ("plain@cloud", "open", 1)
        assert news.reason == "upstream_unreachable"
        assert news.worker.startswith("web-0@")
        assert 10 < news.open_until - time.time() < 20


class TestHosts:
    @pytest.fixture
    async def stage(self, set_stage: SetStage) -> Stage:
        made: Stage = await set_stage(document((LARGE,), (FAR,)))
        return made

    async def test_a_host_elsewhere_reports_its_memory(self, stage: Stage) -> None:
        assert await chosen(stage) == {"large": "memory_unknown"}
        stage.runtime.hear(HostNews("elsewhere", time.time(), available_gb=60, total_gb=64))
        assert await chosen(stage) == "large"
        stage.runtime.hear(HostNews("elsewhere", time.time(), available_gb=20, total_gb=64))
        assert await chosen(stage) == {"large": "memory_fit"}

    async def test_an_old_report_is_none(self, stage: Stage) -> None:
        """Such as a new worker finds in Redis."""
        past = time.time() - 3600
        stage.runtime.hear(HostNews("elsewhere", past, available_gb=60, total_gb=64))
        assert await chosen(stage) == {"large": "memory_unknown"}

    async def test_a_report_of_this_host_does_not_replace_its_own_look(self, stage: Stage) -> None:
        stage.runtime.hear(HostNews(LOCAL_HOST, time.time(), available_gb=1, total_gb=2))
        assert stage.runtime.local.available_gb == 48


class TestPolicies:
    async def test_a_new_policy_is_in_force_at_once(self, quiet_stage: Stage) -> None:
        assert await chosen(quiet_stage) == "sage"
        quiet_stage.runtime.adopt(document((PLAIN,)))
        assert await chosen(quiet_stage) == "plain"

    async def test_connections_outlive_a_policy_that_leaves_their_endpoint_alone(
        self, quiet_stage: Stage
    ) -> None:
        runtime = quiet_stage.runtime
        before = runtime.provider(runtime.policy.by_id["sage@cloud"])
        runtime.adopt(document((SAGE,), (HERE, CLOUD)))
        assert runtime.provider(runtime.policy.by_id["sage@cloud"]) is before

    async def test_a_corrected_endpoint_starts_afresh(self, quiet_stage: Stage) -> None:
        """An admin corrects a URL: nothing that the wrong one did is held against it."""
        runtime = quiet_stage.runtime
        quiet_stage.trip("sage@cloud")
        runtime.hear(EndpointNews("cloud", up=False, at=1.0))
        before = runtime.provider(runtime.policy.by_id["sage@cloud"])
        corrected = replace(CLOUD, base_url="http://127.0.0.1:2/v1")
        runtime.adopt(document((SAGE,), (corrected,)))
        assert runtime.provider(runtime.policy.by_id["sage@cloud"]) is not before
        assert await chosen(quiet_stage) == "sage"

    async def test_an_endpoint_that_cannot_be_used_spoils_no_other(
        self, quiet_stage: Stage, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = replace(CLOUD, name="broken", base_url="ftp://nowhere")
        quiet_stage.runtime.adopt(document((SAGE,), (broken, CLOUD)))
        assert "Endpoint 'broken' cannot be used" in caplog.text
        assert await chosen(quiet_stage) == "sage"


class TestSlowAnswers:
    async def test_they_open_the_breaker_and_say_so(self, quiet_stage: Stage) -> None:
        runtime, told = quiet_stage.runtime, list[BreakerNews]()
        runtime.breaker_news = told.append
        live = runtime.state.offerings["sage@cloud"]

        def answer(took_ms: float, ttft_ms: float | None) -> None:
            now = runtime.clock()
            live.breaker.succeed(now, began=now)
            runtime.learn(live, duration_ms=took_ms, output_tokens=100, ttft_ms=ttft_ms)

        for _ in range(10):
            answer(2_000, 100)
        live.breaker.reset()
        for _ in range(10):
            answer(40_000, 38_000)  # late, and then as fast as ever
        assert not told
        live.breaker.reset()
        for _ in range(5):
            answer(40_000, 100)
        (news,) = told
        assert (news.state, news.reason, news.openings) == ("open", "slow_answers", 1)

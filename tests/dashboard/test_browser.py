"""The live page in a real browser, fed with ticks through the test run's own Redis."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from channels.layers import get_channel_layer  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, Route, expect

from telemetry.live import LIVE_GROUP, TICK_TYPE
from tests.dashboard.browsing import Opened, chromium, opened
from tests.dashboard.messages import attempt, live, memory, model, point, request
from tests.dashboard.serving import dashboard_on, free_port
from tests.fixtures_site import EmbeddedEngines

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
HEALTHY = {"status": "healthy", "services": {"database": "ok", "redis": "ok", "ollama": "ok"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def base_url(embedded_engines: EmbeddedEngines) -> Iterator[str]:
    with dashboard_on(free_port()) as url:
        yield url


async def answer(route: Route) -> None:
    """Stand in for the control plane, which these tests do not start."""
    body: dict[str, Any] = HEALTHY if route.request.url.endswith("/health") else {"models": []}
    await route.fulfill(status=200, content_type="application/json", body=json.dumps(body))


@pytest_asyncio.fixture(loop_scope="module")
async def shown(browser: Browser, base_url: str, redis_url: str) -> AsyncIterator[Opened]:
    """The page, connected and painted once; whatever it does, nothing may be complained of."""
    async with opened(browser) as tab:
        await tab.page.route("**/api/v1/**", answer)
        await tab.page.goto(f"{base_url}/dashboard")
        await expect(tab.page.locator("body[data-painted]")).to_be_attached()
        yield tab
        assert tab.complaints == []
        assert tab.hosts == {base_url.removeprefix("http://")}


@pytest.fixture
def page(shown: Opened) -> Page:
    return shown.page


async def tick(**changes: Any) -> None:
    await get_channel_layer().group_send(LIVE_GROUP, {"type": TICK_TYPE, "data": live(**changes)})


async def test_a_newcomer_sees_what_to_do_next(page: Page) -> None:
    await expect(page.locator("#requests-empty")).to_contain_text("Waiting for the first request")
    await expect(page.locator("#command")).to_contain_text("/api/v1/ai/route-request")
    await expect(page.locator("#models-empty")).to_contain_text("No models yet")


async def test_the_command_is_copied(page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.click("#copy")
    await expect(page.locator("#copy")).to_have_text("Copied")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == await page.locator("#command").text_content()


async def test_figures_come_with_their_units(page: Page) -> None:
    await tick(
        throughput_rps=1234.5,
        p95_ms=1840,
        error_rate=0.023,
        selection_p95_us=41,
        memory=memory(0.83, "high"),
    )
    await expect(page.locator("#throughput .figure")).to_have_text("1,235 requests/s")
    await expect(page.locator("#latency .figure")).to_have_text("1.84 s p95")
    await expect(page.locator("#errors .figure")).to_have_text("2.3% of requests in 10 s")
    await expect(page.locator("#memory .figure")).to_have_text("83% high")
    await expect(page.locator("#throughput")).to_contain_text("41 µs")
    await expect(page.get_by_role("meter")).to_have_attribute("aria-valuetext", "83%, high")


async def test_a_request_is_listed_with_its_reason(page: Page) -> None:
    await tick(recent=[request(1, simulated=True)])
    row = page.locator("#requests tr")
    await expect(row).to_have_count(1)
    for text in ("llama3.2:3b", "best score 0.82 of 7", "200", "1.24 s", "12 → 345", "$0.000035"):
        await expect(row).to_contain_text(text)
    await expect(row.locator(".sim")).to_have_text("simulated")
    await expect(page.locator("#requests-empty")).to_be_hidden()


async def test_a_failover_shows_the_way_it_went(page: Page) -> None:
    attempts = [attempt("llama3.1:8b", "upstream_timeout"), attempt()]
    await tick(recent=[request(1, fallback_used=True, attempts=attempts)])
    await expect(page.locator("#requests .step")).to_have_text(
        [
            "llama3.1:8b ollama, upstream_timeout after 900 ms",
            "llama3.2:3b ollama, answered in 900 ms",
        ]
    )


async def test_a_price_nobody_knows_is_not_shown_as_free(page: Page) -> None:
    await tick(recent=[request(2, cost_usd=None), request(1, cost_usd=0.0)])
    await expect(page.locator("#requests td[data-label=Cost]")).to_have_text(["unknown", "$0"])


async def test_the_list_is_filtered_and_keeps_what_scrolled_by(page: Page) -> None:
    failed = request(0, success=False, status=503, error_type="upstream_timeout")
    await tick(recent=[failed])
    for block in range(4):
        await tick(recent=[request(block * 20 + n) for n in range(20, 0, -1)])
    await expect(page.locator("#requests tr")).to_have_count(50)
    await page.get_by_role("radio", name="Failed").check(force=True)
    await expect(page.locator("#requests tr")).to_have_count(1)
    await expect(page.locator("#requests tr")).to_contain_text("upstream_timeout")
    await page.get_by_role("radio", name="Failover").check(force=True)
    await expect(page.locator("#requests-none")).to_be_visible()


@pytest.mark.parametrize("breaker", ["closed", "half-open", "open"])
async def test_a_breaker_is_told_by_icon_and_word(page: Page, breaker: str) -> None:
    await tick(models=[model(breaker=breaker)])
    cell = page.locator("#models td[data-label=Breaker]")
    await expect(cell).to_have_text(breaker)
    await expect(cell.locator("use")).to_have_attribute("href", f"#i-{breaker}")


async def test_a_changed_breaker_is_announced_once(page: Page) -> None:
    await tick(models=[model()])
    await expect(page.locator("#models tr")).to_have_count(1)
    await tick(models=[model(breaker="open")])
    await expect(page.locator("#announcer")).to_have_text("llama3.2:3b: breaker open")
    await expect(page.locator("#models td[data-label=Health]")).to_have_text("unavailable")


async def test_models_in_trouble_come_first_and_idle_ones_last(page: Page) -> None:
    await tick(models=[model("a", requests=0), model("b"), model("c", "half-open"), model("d")])
    await expect(page.locator("#models th .name")).to_have_text(["c", "b", "d", "a"])


async def test_models_come_and_go_in_order(page: Page) -> None:
    await tick(models=[model("b"), model("c")])
    await expect(page.locator("#models th .name")).to_have_text(["b", "c"])
    await tick(models=[model("a"), model("c")])
    await expect(page.locator("#models th .name")).to_have_text(["a", "c"])


async def test_hostile_strings_stay_text(page: Page) -> None:
    everywhere: dict[str, Any] = dict.fromkeys(
        ("request_id", "task_type", "kind", "priority", "selected_model", "chosen_model"), HOSTILE
    ) | dict.fromkeys(("endpoint", "error_type", "reason"), HOSTILE)
    told = model(HOSTILE)
    told["endpoints"][0]["endpoint"] = HOSTILE
    asked = [attempt(HOSTILE, HOSTILE), attempt(HOSTILE)]
    hostile = request(**everywhere, success=False, fallback_used=True, attempts=asked)
    for breaker in ("closed", "open"):
        await tick(models=[told | {"breaker": breaker}], recent=[hostile])
    await expect(page.locator("#requests .reason")).to_have_text(HOSTILE)
    await expect(page.locator("#models th .name")).to_have_text(HOSTILE)
    assert await page.locator("main img, main script").count() == 0
    assert "taken" not in await page.title()


async def test_markup_from_a_string_is_impossible(page: Page, shown: Opened) -> None:
    refused = await page.evaluate(
        "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.name; } }"
    )
    assert refused == "TypeError"
    assert shown.complaints
    shown.complaints.clear()


async def test_silence_is_shown_as_stale(page: Page) -> None:
    await tick(throughput_rps=5.0)
    await expect(page.locator("#link-text")).to_have_text("Live")
    await expect(page.locator("#link-text")).to_have_text("Stale", timeout=5_000)
    await expect(page.locator("#notice")).to_contain_text("No update for 3 s")
    await expect(page.locator("body")).to_have_attribute("data-outdated", "")
    await tick(throughput_rps=6.0)
    await expect(page.locator("#link-text")).to_have_text("Live")
    await expect(page.locator("#notice")).to_be_hidden()


async def test_pausing_holds_the_figures_and_resuming_catches_up(page: Page) -> None:
    await tick(throughput_rps=5.0)
    await expect(page.locator("#throughput .value")).to_have_text("5.0")
    await page.get_by_role("button", name="Pause").press("Enter")
    await tick(throughput_rps=6.0)
    await expect(page.locator("#link-text")).to_contain_text("Paused at")
    await page.wait_for_timeout(200)
    assert await page.locator("#throughput .value").text_content() == "5.0"
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#throughput .value")).to_have_text("6.0")


async def test_a_chart_is_read_with_the_arrow_keys(page: Page) -> None:
    # Later than the snapshot, whose points would otherwise be the newest.
    now_ms = live()["at_ms"] + 10_000
    for at_ms, p50_ms in ((now_ms, 20), (now_ms + 1000, 30)):
        await tick(at_ms=at_ms, series=[point(at_ms, p50_ms=p50_ms)])
    chart = page.get_by_role("slider", name="Latency, last 5 minutes")
    await expect(chart).to_have_attribute("aria-valuetext", re.compile("p50 30 ms"))
    for key, told in (("End", "p50 30 ms"), ("ArrowLeft", "p50 20 ms"), ("Escape", "p50 30 ms")):
        await chart.press(key)
        await expect(chart).to_have_attribute("aria-valuetext", re.compile(told))


@pytest.mark.parametrize("width", [1024, 390])
async def test_narrow_screens_scroll_one_way_only(page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    failed = request(1, error_type="upstream_timeout", success=False, reason="word " * 60)
    await tick(models=[model("a-model-with-a-rather-long-name:70b-instruct")], recent=[failed])
    await expect(page.locator("#requests tr")).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def live_again(page: Page) -> None:
    # The snapshot is stale, for no conductor runs here; whoever has it hears the tick.
    await expect(page.locator("#link-text")).to_have_text("Stale", timeout=12_000)
    await tick()
    await expect(page.locator("#link-text")).to_have_text("Live")


async def test_it_comes_back_by_itself(browser: Browser, redis_url: str) -> None:
    port = free_port()
    async with opened(browser) as tab:
        await tab.page.route("**/api/v1/**", answer)
        with dashboard_on(port) as url:
            await tab.page.goto(f"{url}/dashboard")
            await live_again(tab.page)
        await expect(tab.page.locator("#link-text")).to_contain_text("Reconnecting since")
        await expect(tab.page.locator("#announcer")).to_contain_text("Reconnecting")
        with dashboard_on(port):
            await live_again(tab.page)


def compared(saved: float, percent: float | None, requests: int = 10) -> dict[str, Any]:
    return {"requestCount": requests, "costUsd": 1.5, "baselineUsd": 1.5 + saved,
            "savedUsd": saved, "savedPercent": percent}  # fmt: skip


async def with_savings(page: Page, saved: dict[str, Any], **more: Any) -> None:
    """Reload the page with these savings."""
    total = {**saved, "measured": saved, "estimated": compared(-0.25, None, 1), "simulatedCount": 0,
             "notComparedCount": 0, **more}  # fmt: skip
    bodies = {
        "savings": {"total": total, "groups": [{"group": "2026-11-23", **total}] * 3},
        "costs": {"total": {"costUsd": 2.25}},
    }

    async def answer_analytics(route: Route) -> None:
        name = route.request.url.rpartition("/")[2].partition("?")[0]
        await route.fulfill(content_type="application/json", body=json.dumps(bodies[name]))

    await page.route("**/analytics/**", answer_analytics)
    await page.reload()


async def test_what_was_saved_measured_and_estimated_apart(page: Page) -> None:
    await with_savings(page, compared(4.5, 75.0), notComparedCount=7)
    shown = page.locator("#savings .money dd")
    await expect(shown).to_have_text(["$2.25", "$6.00", "$4.50 (75%)", "$4.50 (75%)", "−$0.250"])
    await expect(page.locator("#savings")).to_contain_text("7 without a known price")
    await expect(page.locator("#savings .days rect")).to_have_count(6)
    await expect(page.locator("#savings")).to_have_attribute("data-loss", "false")


async def test_a_loss_is_shown_as_one(page: Page) -> None:
    await with_savings(page, compared(-0.5, -50.0))
    await expect(page.locator("#savings .saved dd")).to_have_text("−$0.500 (−50%)")
    await expect(page.locator("#savings")).to_have_attribute("data-loss", "true")


async def test_without_a_request_nothing_was_saved_or_lost(page: Page) -> None:
    await with_savings(page, compared(0, None, 0), estimated=compared(0, None, 0))
    await expect(page.locator("#savings .saved dd")).to_have_text("–")

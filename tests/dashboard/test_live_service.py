"""The live page on the real service: supervisor, web workers, conductor, engines and simulator."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from orchestra_site import home as homes
from tests.dashboard.browsing import Opened, chromium, opened
from tests.service import LiveService

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

SHOWN_LIMIT_S = 2.0
# Whatever other tests route does not depend on this one.
SCAPEGOAT = "llava:7b"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def shown(browser: Browser, live_service: LiveService) -> AsyncIterator[Opened]:
    """The page, live."""
    async with opened(browser) as tab:
        await tab.page.goto(f"{live_service.url}/dashboard")
        await expect(tab.page.locator("#link-text")).to_have_text("Live", timeout=10_000)
        yield tab


@pytest.fixture
def failing_model(live_service: LiveService) -> Iterator[str]:
    """A model that answers every request with a server error."""
    running = homes.running(live_service.home)
    assert running is not None
    faults = f"{running.ollama_url}/_sim/faults"
    fault = {"kind": "http_error", "status": 500, "model": SCAPEGOAT}
    httpx.put(faults, json={"faults": [fault]}, trust_env=False).raise_for_status()
    yield SCAPEGOAT
    httpx.delete(faults, trust_env=False).raise_for_status()


async def test_a_routed_request_is_shown_with_its_reason(
    shown: Opened, live_service: LiveService
) -> None:
    body = {"taskType": "completion", "prompt": "Hello", "requirements": {"maxTokens": 5}}
    async with httpx.AsyncClient(base_url=live_service.url, timeout=60, trust_env=False) as client:
        answer = (await client.post("/api/v1/ai/route-request", json=body)).json()
    answered = time.monotonic()
    row = shown.page.get_by_title(f"Request {answer['requestId']}", exact=True)
    await expect(row).to_be_visible(timeout=SHOWN_LIMIT_S * 1000)
    assert time.monotonic() - answered < SHOWN_LIMIT_S
    await expect(row.locator(".name")).to_have_text(answer["selectedModel"])
    await expect(row.locator(".reason")).to_have_text(answer["reason"])
    await expect(row.locator(".sim")).to_be_visible()


async def test_the_page_is_complete_and_stays_at_home(
    shown: Opened, live_service: LiveService
) -> None:
    await expect(shown.page.locator("#simulated")).to_be_visible()
    await expect(shown.page.locator("#services .state-ok")).to_have_count(3, timeout=10_000)
    await expect(shown.page.locator("#models tr").first).to_be_visible()
    await expect(shown.page.locator("#memory .level")).to_have_text(re.compile("[a-z]+"))
    assert shown.complaints == []
    assert shown.hosts == {live_service.url.removeprefix("http://")}


async def test_a_breaker_that_opens_is_seen(
    shown: Opened, live_service: LiveService, failing_model: str
) -> None:
    row = shown.page.get_by_role("row", name=re.compile(re.escape(failing_model)))
    await expect(row.locator("td[data-label=Breaker]")).to_have_text("closed")
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": failing_model, "max_tokens": 1, "messages": messages}
    async with httpx.AsyncClient(base_url=live_service.url, timeout=60, trust_env=False) as client:
        await asyncio.gather(*[client.post("/v1/chat/completions", json=body) for _ in range(12)])
    await expect(row.locator("td[data-label=Breaker]")).to_have_text("open", timeout=5_000)
    await expect(row.locator("td[data-label=Health]")).to_have_text("unavailable")
    await expect(shown.page.locator("#requests .step-failed").first).to_contain_text(failing_model)


async def test_it_comes_back_after_its_web_worker_was_killed(
    shown: Opened, live_service: LiveService
) -> None:
    workers = [live_service.child(f"web-{number}") for number in range(2)]
    for worker in workers:
        worker.kill()
    await expect(shown.page.locator("#link-text")).to_contain_text("Reconnecting since")
    await expect(shown.page.locator("#link-text")).to_have_text("Live", timeout=30_000)
    await everybody_back(live_service)


async def everybody_back(live_service: LiveService) -> None:
    """Wait for the supervisor: the tests that follow may count on every worker."""
    deadline = time.monotonic() + 30
    while not all(is_back(live_service, f"web-{number}") for number in range(2)):
        assert time.monotonic() < deadline, "A killed web worker was not started again."
        await asyncio.sleep(0.1)


def is_back(live_service: LiveService, worker: str) -> bool:
    try:
        live_service.child(worker)
    except LookupError:
        return False
    return True

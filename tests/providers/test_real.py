"""Both adapters against real servers: the simulator in either protocol, and llama.cpp."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from routing.engine.catalog import EndpointSpec
from routing.engine.errors import ProviderError, RefusedByUpstream
from routing.providers.base import Call, Provider, Usage
from routing.providers.registry import PROVIDERS, provider_for
from tests.cast import CATALOGUE
from tests.engines import Engine
from tests.fixtures_engines import SimulatedHost, StartSimulator
from tests.waiting import soon

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello you"}]
CHAT = Call(model="alpha:1b", messages=HELLO, max_tokens=6)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@asynccontextmanager
async def adapter(kind: str, url: str) -> AsyncIterator[Provider]:
    spec = EndpointSpec(name="acme", provider=kind, base_url=url)  # type: ignore[arg-type]
    provider = provider_for(spec)
    try:
        yield provider
    finally:
        await provider.close()


async def gather(provider: Provider, call: Call) -> tuple[str, Any]:
    """Return the text of a stream and its usage."""
    pieces = [piece async for piece in provider.stream(call)]
    usages = [piece.usage for piece in pieces if piece.usage]
    return "".join(piece.text for piece in pieces), usages[-1]


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
class TestSimulator:
    @pytest.fixture
    def host(self, start_simulator: StartSimulator) -> SimulatedHost:
        return start_simulator(CATALOGUE, instant=True)

    async def test_whole_and_streamed_say_the_same(self, host: SimulatedHost, kind: str) -> None:
        call = Call(model="alpha:1b", messages=HELLO, max_tokens=6, temperature=0.0)
        async with adapter(kind, host.url) as provider:
            whole = await provider.complete(call)
            streamed = await gather(provider, call)
        assert (whole.text, whole.usage) == streamed
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 6
        assert whole.finish_reason == "length"

    async def test_embeddings(self, host: SimulatedHost, kind: str) -> None:
        async with adapter(kind, host.url) as provider:
            told = await provider.embed(Call(model="vectors:1b", inputs=["one", "two", "one"]))
        one, two, again = told.vectors or []
        assert one == again != two
        assert len(one) == 64

    async def test_tools(self, host: SimulatedHost, kind: str) -> None:
        call = Call(model="alpha:1b", messages=HELLO, params={"tools": [TOOL]})
        async with adapter(kind, host.url) as provider:
            whole = await provider.complete(call)
            pieces = [piece async for piece in provider.stream(call)]
        names = [call["function"]["name"] for call in whole.tool_calls or []]
        assert (names, whole.finish_reason) == (["get_weather"], "tool_calls")
        assert pieces[-1].finish_reason == "tool_calls" or pieces[-2].finish_reason == "tool_calls"

    async def test_a_model_it_does_not_have(self, host: SimulatedHost, kind: str) -> None:
        async with adapter(kind, host.url) as provider:
            with pytest.raises(RefusedByUpstream) as caught:
                await provider.complete(Call(model="gone:1b", messages=HELLO))
        assert caught.value.kind == "model_not_found"

    @pytest.mark.parametrize("after", [0, 2])
    @pytest.mark.parametrize(
        "fault", ["cut", "reset", "error_line", "malformed_json", "no_end", "http_error", "html"]
    )
    async def test_faults_of_a_stream_are_provider_errors(
        self, host: SimulatedHost, kind: str, fault: str, after: int
    ) -> None:
        host.fail(fault, after_tokens=after)
        async with adapter(kind, host.url) as provider:
            with pytest.raises(ProviderError):
                await gather(provider, CHAT)

    @pytest.mark.parametrize("work", ["complete", "gather"])
    async def test_a_cancelled_call_is_cancelled_there(
        self, host: SimulatedHost, kind: str, work: str
    ) -> None:
        host.fail("silence")
        async with adapter(kind, host.url) as provider:
            waiting: Callable[[], Any] = (
                (lambda: provider.complete(CHAT))
                if work == "complete"
                else (lambda: gather(provider, CHAT))
            )
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting(), 0.2)
            await soon(lambda: host.sim.cancelled == 1)


class TestLlama:
    async def test_usage_is_counted_by_a_real_tokeniser(self, llama_server: Engine) -> None:
        call = Call(model=llama_server.model, messages=HELLO, max_tokens=8, temperature=0.0)
        async with adapter("openai", llama_server.base_url) as provider:
            whole = await provider.complete(call)
            text, usage = await gather(provider, call)
        assert whole.text == text
        # The second time it still holds nearly all of the prompt, and says so.
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (28, 8)
        assert usage == Usage(28, 8, cached_tokens=27)

    async def test_a_prompt_beyond_its_context_is_called_that(self, llama_server: Engine) -> None:
        call = Call(model=llama_server.model, prompt="x" * 9000, max_tokens=1)
        async with adapter("openai", llama_server.base_url) as provider:
            with pytest.raises(RefusedByUpstream) as caught:
                await provider.complete(call)
        assert caught.value.kind == "context_length_exceeded"

    async def test_leaving_a_stream_frees_its_slot(self, llama_server: Engine) -> None:
        """Four slots: a fifth caller is served only if the others were really ended."""
        endless = Call(model=llama_server.model, messages=HELLO, max_tokens=1900)
        async with adapter("openai", llama_server.base_url) as provider:
            for _ in range(8):
                pieces: Any = provider.stream(endless)
                await anext(pieces)
                await pieces.aclose()
            async with asyncio.timeout(5):
                short = Call(model=llama_server.model, messages=HELLO, max_tokens=2)
                assert (await provider.complete(short)).text

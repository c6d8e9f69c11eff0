"""Probes say in one sentence why an endpoint is not fit, and keep the key to themselves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from routing.engine.catalog import EndpointSpec
from routing.policy import metadata
from routing.policy.metadata import ProbeError, Sighting
from tests.fixtures_engines import SimulatedHost

KEY = "sk-planted-0123"


def at(url: str, provider: str = "ollama", key_ref: str = "") -> EndpointSpec:
    return EndpointSpec(name="e", provider=provider, base_url=url, api_key_ref=key_ref)  # type: ignore[arg-type]


async def look(endpoint: EndpointSpec) -> Sighting:
    async with metadata.client() as http:
        return await metadata.look(http, endpoint)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("http_error", "answered with status 500"),
        ("html", "answered with status"),
        ("malformed_json", "answered something else than its protocol says"),
        ("reset", "Nothing answers at"),
        ("short_body", "Nothing answers at"),
        ("silence", "did not answer in time"),
    ],
)
async def test_every_fault_is_a_sentence(
    simulator: SimulatedHost, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    monkeypatch.setattr(metadata, "TIMEOUT_S", 0.3)
    simulator.fail(kind, path="/api/tags")
    with pytest.raises(ProbeError, match=reason) as caught:
        await look(at(simulator.url))
    assert "/api/tags" in str(caught.value)


async def test_the_wrong_protocol_is_told(simulator: SimulatedHost) -> None:
    with pytest.raises(ProbeError, match="is not there \\(404\\); check provider and base_url"):
        await look(at(f"{simulator.url}/v1"))


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/"])
async def test_openai_listings_are_found_with_and_without_v1(
    simulator: SimulatedHost, suffix: str
) -> None:
    sighting = await look(at(simulator.url + suffix, "openai"))
    assert sighting.models is not None
    assert len(sighting.models) == 14


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(handler))


@contextlib.asynccontextmanager
async def redirecting() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that sends every caller elsewhere on itself, and the requests that it got."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 307 T\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", requests


async def test_a_redirect_is_not_followed_and_the_key_stays_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLANTED", KEY)
    async with redirecting() as (url, requests):
        with pytest.raises(ProbeError, match="a redirect, which is never followed") as caught:
            await look(at(url, "openai", "env:PLANTED"))
    assert [request.split()[1] for request in requests] == [b"/v1/models"]
    assert f"Authorization: Bearer {KEY}".encode().lower() in requests[0].lower()
    assert KEY not in str(caught.value)


async def test_a_refused_or_missing_key_says_where_to_look() -> None:
    async with answering(lambda _: httpx.Response(401)) as http:
        with pytest.raises(ProbeError, match="refused the key \\(401\\); check api_key_ref"):
            await metadata.look(http, at("http://api.example/v1", "openai"))
        with pytest.raises(ProbeError, match="UNSET_PLANTED, which should hold a key, is unset"):
            await metadata.look(http, at("http://api.example", "openai", "env:UNSET_PLANTED"))


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "LARGEST_ANSWER_BYTES", 1000)
    async with answering(lambda _: httpx.Response(200, content=b" " * 2000)) as http:
        with pytest.raises(ProbeError, match="answered with more than"):
            await metadata.look(http, at("http://api.example/v1", "openai"))


async def test_a_server_without_a_listing_is_up_all_the_same() -> None:
    async with answering(lambda _: httpx.Response(404)) as http:
        sighting = await metadata.look(http, at("http://api.example/v1", "openai"))
    assert sighting == Sighting(models=None)

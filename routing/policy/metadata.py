"""What an endpoint tells about itself: version, models, what is loaded. Never costs a token.

httpx with short limits, no proxies and no redirects: a key is sent to the configured address only.
"""

import asyncio
from typing import Any, TypeVar

import httpx
import msgspec

from routing.engine.catalog import EndpointSpec
from routing.policy import sizing
from routing.providers.openai import api_base
from routing.providers.secrets import SecretError, resolve

CONNECT_TIMEOUT_S = 2.0
TIMEOUT_S = 5.0
LARGEST_ANSWER_BYTES = 16 * 1024 * 1024
MOST_MODELS = 2000

T = TypeVar("T")


class ProbeError(Exception):
    """Raised when an endpoint does not answer as it should; its text is one sentence."""


class NotThere(ProbeError):
    """Raised when the server answers but does not know the path."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A model that an endpoint lists; what it does not tell is empty or None."""

    name: str
    digest: str = ""
    weights_bytes: int = 0
    gpu_bytes: int = 0  # of a loaded one
    parameters_b: float | None = None
    context_length: int | None = None
    capabilities: tuple[str, ...] = ()
    shape: sizing.Shape | None = None


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint answered. `models` is None where it has no listing."""

    version: str = ""
    models: tuple[Found, ...] | None = None
    # `weights_bytes`: all the memory each of them uses; `context_length`: what it was loaded with.
    loaded: tuple[Found, ...] = ()


class _Version(msgspec.Struct):
    version: str = ""


class _Details(msgspec.Struct):
    parameter_size: str | None = None


class _Tag(msgspec.Struct):
    name: str
    size: int = 0
    size_vram: int = 0
    context_length: int | None = None
    digest: str = ""
    details: _Details | None = None


class _Tags(msgspec.Struct):
    models: list[_Tag] | None = None


class _Show(msgspec.Struct):
    model_info: dict[str, Any] | None = None
    capabilities: list[str] | None = None
    details: _Details | None = None


class _Listed(msgspec.Struct):
    id: str
    max_model_len: int | None = None  # vLLM
    context_length: int | None = None  # several clouds
    meta: dict[str, Any] | None = None  # llama.cpp


class _Listing(msgspec.Struct):
    data: list[_Listed]


def client() -> httpx.AsyncClient:
    """Return a client for probes; it may serve any number of endpoints."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=False,
        trust_env=False,
    )


async def look(http: httpx.AsyncClient, endpoint: EndpointSpec) -> Sighting:
    """Ask an endpoint for its metadata; raises ProbeError with the reason when it is not fit."""
    asked = _Asked(http, endpoint)
    if endpoint.provider == "ollama":
        return await _look_at_ollama(asked)
    return await _look_at_openai(asked)


async def describe(http: httpx.AsyncClient, endpoint: EndpointSpec, found: Found) -> Found:
    """Return what `/api/show` adds to a listed model; an OpenAI listing is all there is."""
    if endpoint.provider != "ollama":
        return found
    asked = _Asked(http, endpoint)
    show = await asked.for_(f"{asked.base_url}/api/show", _Show, body={"model": found.name})
    info = show.model_info or {}
    count = info.get("general.parameter_count")
    return msgspec.structs.replace(
        found,
        parameters_b=count / 1e9 if isinstance(count, int) and count > 0 else found.parameters_b,
        context_length=_context(info.get(f"{info.get('general.architecture')}.context_length")),
        capabilities=tuple(show.capabilities or ()),
        shape=sizing.shape_of(info),
    )


class _Asked:
    """One endpoint being asked, with its key; the key goes nowhere but into the header."""

    def __init__(self, http: httpx.AsyncClient, endpoint: EndpointSpec) -> None:
        self.base_url = endpoint.base_url.rstrip("/")
        self._http = http
        try:
            key = resolve(endpoint.api_key_ref)
        except SecretError as exc:
            raise ProbeError(str(exc)) from exc
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    async def for_(self, url: str, answer: type[T], body: dict[str, Any] | None = None) -> T:
        """Return the decoded answer to a GET, or to a POST where there is a body."""
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                content = await self._content(url, body)
        except (TimeoutError, httpx.TimeoutException) as exc:
            raise ProbeError(f"{url} did not answer in time.") from exc
        except (httpx.RequestError, httpx.InvalidURL) as exc:
            raise ProbeError(f"Nothing answers at {url}: {_reason(exc)}") from exc
        try:
            return msgspec.json.decode(content, type=answer)
        except msgspec.DecodeError as exc:
            raise ProbeError(f"{url} answered something else than its protocol says.") from exc

    async def _content(self, url: str, body: dict[str, Any] | None) -> bytes:
        method = "GET" if body is None else "POST"
        request = self._http.stream(method, url, json=body, headers=self._headers)
        async with request as response:
            _check_status(url, response.status_code)
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > LARGEST_ANSWER_BYTES:
                    raise ProbeError(f"{url} answered with more than 16 MiB.")
        return content


def _check_status(url: str, status: int) -> None:
    if status == 200:
        return
    if 300 <= status < 400:
        raise ProbeError(
            f"{url} answered with a redirect, which is never followed; give its target."
        )
    if status in (401, 403):
        raise ProbeError(f"{url} refused the key ({status}); check api_key_ref.")
    if status == 404:
        raise NotThere(f"{url} is not there (404); check provider and base_url.")
    raise ProbeError(f"{url} answered with status {status}.")


def _reason(exc: Exception) -> str:
    return (str(exc) or type(exc).__name__).rstrip(".") + "."


async def _look_at_ollama(asked: _Asked) -> Sighting:
    version, tags, loaded = await asyncio.gather(
        asked.for_(f"{asked.base_url}/api/version", _Version),
        asked.for_(f"{asked.base_url}/api/tags", _Tags),
        asked.for_(f"{asked.base_url}/api/ps", _Tags),
    )
    return Sighting(
        version=version.version[:100],
        models=tuple(_found_tag(tag) for tag in (tags.models or ())[:MOST_MODELS]),
        loaded=tuple(_found_tag(tag) for tag in (loaded.models or ())[:MOST_MODELS]),
    )


def _found_tag(tag: _Tag) -> Found:
    size = (tag.details and tag.details.parameter_size) or tag.name
    return Found(
        name=tag.name,
        digest=tag.digest,
        weights_bytes=max(tag.size, 0),
        gpu_bytes=max(tag.size_vram, 0),
        context_length=_context(tag.context_length),
        parameters_b=sizing.billions(size),
    )


async def _look_at_openai(asked: _Asked) -> Sighting:
    try:
        listing = await asked.for_(f"{api_base(asked.base_url)}/models", _Listing)
    except NotThere:
        # Some servers list nothing; that they answer is all there is to know.
        return Sighting()
    return Sighting(models=tuple(_found_listed(listed) for listed in listing.data[:MOST_MODELS]))


def _found_listed(listed: _Listed) -> Found:
    meta = listed.meta or {}
    count, size = meta.get("n_params"), meta.get("size")
    return Found(
        name=listed.id,
        weights_bytes=size if isinstance(size, int) else 0,
        parameters_b=count / 1e9 if isinstance(count, int) else sizing.billions(listed.id),
        context_length=_context(
            listed.max_model_len or listed.context_length or meta.get("n_ctx_train")
        ),
    )


def _context(tokens: object) -> int | None:
    return tokens if isinstance(tokens, int) and 0 < tokens <= 100_000_000 else None

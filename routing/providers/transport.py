"""HTTP to one endpoint through pyreqwest, with every failure turned into a `ProviderError`."""

import email.utils
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import (
    BuilderError,
    ConnectError,
    ConnectTimeoutError,
    DecodeError,
    PyreqwestError,
    RequestTimeoutError,
    WriteError,
)
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

from routing.engine.errors import (
    ConnectFailed,
    MalformedAnswer,
    ProviderError,
    RefusedByUpstream,
    StreamCut,
    UpstreamBusy,
    UpstreamFault,
    UpstreamTimeout,
)

CONNECT_TIMEOUT = timedelta(seconds=5)
# Idle connections are dropped before common servers do (75 s in nginx, 60 s elsewhere).
IDLE_TIMEOUT = timedelta(seconds=30)
MAX_QUOTED = 300  # characters of an upstream's own words that are passed on
# Nobody means more by it; a wrong clock or a hostile one must not close an endpoint for years.
MAX_RETRY_AFTER_S = 3600.0
# What decoding an upstream's bytes can raise: msgspec leaves the last two to Python.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

encode = msgspec.json.Encoder().encode


class Transport:
    """A connection pool to one base URL. Redirects are never followed, proxies never used."""

    def __init__(self, endpoint: str, base_url: str, api_key: str = "") -> None:
        self.endpoint = endpoint
        self.base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._client = self._build(api_key)

    def __repr__(self) -> str:
        return f"Transport({self.endpoint!r}, {self.base_url!r})"

    @staticmethod
    def _build(api_key: str) -> Client:
        headers = {"content-type": "application/json", "user-agent": "ai-orchestra/1"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        return (
            ClientBuilder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .follow_redirects(False)
            .no_proxy()
            .default_headers(headers)
            .build()
        )

    async def close(self) -> None:
        await self._client.close()

    async def post(self, path: str, body: Any) -> bytes:
        """Return the body of a 200 answer to `body` sent as JSON."""
        try:
            response = await self._request(path, body).build().send()
            content = bytes(await response.bytes())
        except PyreqwestError as exc:
            raise self._failure(exc) from exc
        if response.status != 200:
            raise self.refusal(response, content)
        return content

    @asynccontextmanager
    async def stream(self, path: str, body: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of a 200 answer as they arrive; leaving closes the connection."""
        try:
            async with self._request(path, body).build_streamed() as response:
                if response.status != 200:
                    raise self.refusal(response, bytes(await response.bytes()))
                yield self._chunks(response)
        except PyreqwestError as exc:
            raise self._failure(exc) from exc

    def _request(self, path: str, body: Any) -> RequestBuilder:
        return self._client.post(self.base_url + path).body_bytes(encode(body))

    async def _chunks(self, response: Response) -> AsyncIterator[bytes]:
        reader = response.body_reader
        while (chunk := await reader.read_chunk()) is not None:
            yield bytes(chunk)

    def _failure(self, exc: PyreqwestError) -> ProviderError:
        if isinstance(exc, ConnectError | ConnectTimeoutError | WriteError):
            return ConnectFailed(self.endpoint, f"Could not connect to endpoint '{self.endpoint}'.")
        if isinstance(exc, BuilderError):
            return Misconfigured(self.endpoint, f"The URL of '{self.endpoint}' cannot be used.")
        if isinstance(exc, RequestTimeoutError):
            return UpstreamTimeout(self.endpoint, f"Endpoint '{self.endpoint}' did not answer.")
        if isinstance(exc, DecodeError):
            detail = f"Endpoint '{self.endpoint}' sent an answer that is not whole HTTP."
            return MalformedAnswer(self.endpoint, detail)
        return StreamCut(self.endpoint, f"Endpoint '{self.endpoint}' broke off its answer.")

    def refusal(self, response: Response, content: bytes) -> ProviderError:
        """Return the error that a status other than 200 stands for."""
        status, name = response.status, self.endpoint
        if status in (401, 403) or status < 400:
            # Its refusal of our credential, which it may quote, or a redirect: not the caller's.
            remedy = "check its URL" if status < 400 else "check its key"
            return Misconfigured(name, f"Endpoint '{name}' answered {status}; {remedy}.")
        message, code = upstream_words(content)
        if self._api_key:
            message = message.replace(self._api_key, "***")
        said = f"Endpoint '{name}' answered {status}" + (f": {message}" if message else ".")
        wait_s = retry_after_s(response.get_header("retry-after"))
        if status in (429, 503):
            return UpstreamBusy(name, said, retry_after_s=wait_s)
        if status == 408:
            return UpstreamTimeout(name, said)
        if status >= 500:
            return UpstreamFault(name, said, retry_after_s=wait_s)
        return RefusedByUpstream(name, said, status=status, kind=_kind(status, message, code))


class Misconfigured(UpstreamFault):
    """Raised when an endpoint refuses our credential or redirects; asking again cannot help."""

    code = "upstream_misconfigured"
    retry_same = False


def upstream_words(content: bytes) -> tuple[str, str]:
    """Return (message, code) of an error body in Ollama's or OpenAI's shape, else ('', '')."""
    try:
        error = msgspec.json.decode(content)["error"]
    except (*UNDECODABLE, KeyError, TypeError, IndexError):
        return "", ""
    if isinstance(error, str):
        return error[:MAX_QUOTED], ""
    if isinstance(error, dict):
        return str(error.get("message") or "")[:MAX_QUOTED], str(error.get("code") or "")
    return "", ""


def _kind(status: int, message: str, code: str) -> str:
    words = message.lower()
    if code == "context_length_exceeded" or "context length" in words or "context size" in words:
        return "context_length_exceeded"
    if code == "model_not_found" or (status == 404 and "not found" in words):
        return "model_not_found"
    return code


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds a `Retry-After` header asks for (delta or HTTP date), or None.

    Between 0 and MAX_RETRY_AFTER_S, whatever it says.
    """
    if not value:
        return None
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    # Not a number compares with nothing, so `min` and `max` alone would let it through.
    return None if wait_s != wait_s else min(max(0.0, wait_s), MAX_RETRY_AFTER_S)

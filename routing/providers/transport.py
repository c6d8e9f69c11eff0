"""Calls to one endpoint, with every failure turned into a `ProviderError`."""

import email.utils
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

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
from routing.providers.http import (
    Broken,
    Connection,
    HttpError,
    NoConnection,
    Origin,
    Unreached,
)

MAX_ERROR_BYTES = 64 * 1024
MAX_QUOTED = 300  # characters of an upstream's own words that are passed on
# Nobody means more by it; a wrong clock or a hostile one must not close an endpoint for years.
MAX_RETRY_AFTER_S = 3600.0
MAYBE_DONE = (408, 502, 504)
# What decoding an upstream's bytes can raise: msgspec leaves the last two to Python.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

encode = msgspec.json.Encoder().encode


class Transport:
    """Calls to one base URL. Redirects are never followed, proxies never used."""

    def __init__(self, endpoint: str, base_url: str, api_key: str = "") -> None:
        """Raises ValueError where the URL or the key cannot be used."""
        self.endpoint = endpoint
        self._api_key = api_key
        headers = {
            "content-type": "application/json",
            "user-agent": "ai-orchestra/1",
            # Without it any encoding would be as good.
            "accept-encoding": "identity",
        }
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._origin = Origin(base_url, headers)

    async def close(self) -> None:
        self._origin.close()

    async def post(self, path: str, body: Any) -> bytes:
        """Return the body of a 200 answer to `body` sent as JSON."""
        try:
            return self._content(await self._origin.post(path, encode(body), whole=True))
        except HttpError as exc:
            raise self._failure(exc) from exc

    async def get(self, path: str) -> bytes:
        """Return the body of a 200 answer."""
        try:
            return self._content(await self._origin.get(path))
        except HttpError as exc:
            raise self._failure(exc) from exc

    def _content(self, connection: Connection) -> bytes:
        content = connection.take()
        self._origin.put_back(connection)
        if connection.status != 200:
            raise self.refusal(connection, content)
        self._require_plain(connection)
        return content

    @asynccontextmanager
    async def stream(self, path: str, body: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the chunks of a 200 answer as they arrive; an exception closes the connection."""
        try:
            connection = await self._origin.post(path, encode(body), whole=False)
            try:
                if connection.status != 200:
                    raise self.refusal(connection, await _beginning(connection))
                self._require_plain(connection)
                yield _chunks(connection)
            except BaseException:
                connection.abort()
                raise
        except HttpError as exc:
            raise self._failure(exc) from exc
        # The last word is here; what ends the HTTP body may still be on its way.
        connection.leave(self._origin.put_back)

    def _require_plain(self, answer: Connection) -> None:
        """Raise MalformedAnswer for a body in an encoding that was not asked for."""
        if answer.headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
            said = f"Endpoint '{self.endpoint}' sent a compressed answer that nobody asked for."
            raise MalformedAnswer(self.endpoint, said)

    def _failure(self, exc: HttpError) -> ProviderError:
        name = self.endpoint
        if isinstance(exc, NoConnection):
            failed = ConnectFailed(name, f"Could not reach endpoint '{name}': {exc}.")
            failed.may_cost = not isinstance(exc, Unreached)
            return failed
        if isinstance(exc, Broken):
            return StreamCut(name, f"Endpoint '{name}' broke off its answer.")
        return MalformedAnswer(name, f"Endpoint '{name}' sent an answer that is not HTTP.")

    def refusal(self, answer: Connection, content: bytes) -> ProviderError:
        """Return the error that a status other than 200 stands for."""
        error = self._refusal(answer, content)
        # Nobody charges for an error, but behind a gateway's the work may have been done.
        error.may_cost = answer.status in MAYBE_DONE
        return error

    def _refusal(self, answer: Connection, content: bytes) -> ProviderError:
        status, name = answer.status, self.endpoint
        if status in (401, 403) or status < 400:
            # Its refusal of our credential, which it may quote, or a redirect: not the caller's.
            remedy = "check its URL" if status < 400 else "check its key"
            return Misconfigured(name, f"Endpoint '{name}' answered {status}; {remedy}.")
        message, code = upstream_words(content)
        message = self.quotable(message)
        said = f"Endpoint '{name}' answered {status}" + (f": {message}" if message else ".")
        wait_s = retry_after_s(answer.headers.get(b"retry-after", b"").decode("latin-1"))
        if status in (429, 503):
            return UpstreamBusy(name, said, retry_after_s=wait_s)
        if status == 408:
            return UpstreamTimeout(name, said)
        if status >= 500:
            return UpstreamFault(name, said, retry_after_s=wait_s)
        return RefusedByUpstream(name, said, status=status, kind=_kind(status, message, code))

    def quotable(self, words: str) -> str:
        """Return an upstream's words, in short, and without the key if it quoted that."""
        whole = words.replace(self._api_key, "***") if self._api_key else words
        return whole[:MAX_QUOTED]


async def _chunks(connection: Connection) -> AsyncIterator[bytes]:
    while (chunk := await connection.read()) is not None:
        yield chunk


async def _beginning(connection: Connection) -> bytes:
    """Return as much of an error's body as is worth reading."""
    content = b""
    while len(content) < MAX_ERROR_BYTES and (chunk := await connection.read()) is not None:
        content += chunk
    return content


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
        return error, ""
    if isinstance(error, dict):
        return str(error.get("message") or ""), str(error.get("code") or "")
    return "", ""


def _kind(status: int, message: str, code: str) -> str:
    words = message.lower()
    if code == "context_length_exceeded" or "context length" in words or "context size" in words:
        return "context_length_exceeded"
    if code == "model_not_found" or (status == 404 and "not found" in words):
        return "model_not_found"
    return code


def retry_after_s(value: str) -> float | None:
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

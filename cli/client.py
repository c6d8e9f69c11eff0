"""One HTTP exchange with the orchestrator, and a sentence for whatever goes wrong in it."""

import http.client
import json
import socket
import ssl
import time
from contextlib import suppress
from typing import BinaryIO, NamedTuple
from urllib.parse import SplitResult, urlencode, urlsplit

from cli.errors import OutputFault, Refused, Unreachable, UsageFault
from cli.problem import explain

# Far above any contracted answer; keeps a wrong address from filling the memory.
_BODY_LIMIT_BYTES = 64 * 1024 * 1024


class Answer(NamedTuple):
    """What came back: `body` as sent, `document` decoded."""

    status: int
    body: bytes
    document: dict[str, object]
    elapsed_ms: float


class BaseUrl(NamedTuple):
    """Where the orchestrator answers; `text` is what people are shown."""

    text: str
    scheme: str
    host: str
    port: int | None
    prefix: str

    @classmethod
    def parse(cls, text: str, *, source: str) -> "BaseUrl":
        """Return the address, or raise UsageFault naming `source` (an option or a variable)."""
        try:
            parts = urlsplit(text.strip())
            port = parts.port
            (parts.hostname or "").encode("idna")
        except UnicodeError as fault:
            raise UsageFault(f"{source}: {text!r} has no valid host name.") from fault
        except ValueError as fault:
            raise UsageFault(f"{source}: {text!r} is not a URL: {fault}.") from fault
        wrong = _what_is_wrong(parts)
        if wrong:
            raise UsageFault(f"{source}: {wrong}, as in http://127.0.0.1:8080.")
        prefix = parts.path.rstrip("/")
        shown = f"{parts.scheme}://{parts.netloc}{prefix}"
        return cls(shown, parts.scheme, parts.hostname or "", port, prefix)


def _what_is_wrong(parts: SplitResult) -> str:
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return f"{parts.geturl()!r} must begin with http:// or https://"
    if "@" in parts.netloc:
        # Not repeated: what stands before the @ may be a password.
        return "the URL must not hold a user name or password"
    if not parts.hostname or any(c.isspace() or not c.isprintable() for c in parts.geturl()):
        return f"{parts.geturl()!r} needs a host"
    if not parts.path.isascii():
        return f"{parts.geturl()!r} needs its path percent-encoded"
    if parts.query or parts.fragment:
        return f"{parts.geturl()!r} must end after the path"
    return ""


class Client:
    """Asks one orchestrator; every fault is an `Unreachable` or a `Refused`."""

    def __init__(self, base: BaseUrl, timeout_s: float, key: str = "") -> None:
        self.base = base
        self._timeout_s = timeout_s
        self._key = key

    def get(self, path: str, **query: str) -> Answer:
        """GET the path; query values are sent as they are."""
        return self._checked(
            *self._exchange("GET", f"{path}?{urlencode(query)}" if query else path)
        )

    def post(self, path: str, payload: dict[str, object]) -> Answer:
        """POST the payload as JSON."""
        return self._checked(*self._exchange("POST", path, json.dumps(payload).encode()))

    def download(self, path: str, sink: BinaryIO, **query: str) -> int:
        """GET the path into `sink` as it comes; returns its size in bytes.

        The timeout holds for each part, not for the whole: a long file takes its time.
        """
        connection = self._connection()
        target = f"{self.base.prefix}{path}?{urlencode(query)}"
        try:
            connection.request("GET", target, None, self._headers("*/*"))
            response = connection.getresponse()
            if response.status != http.client.OK:
                body = self._body(connection, response, time.monotonic() + self._timeout_s)
                self._checked(response, body, 0.0)
                raise self._not_ours(f"answered {response.status} without a file")
            return _copied(response, sink)
        except (OSError, http.client.HTTPException) as fault:
            raise self._unreachable(fault) from fault
        finally:
            connection.close()

    def health(self) -> Answer:
        """GET the health report; an unhealthy orchestrator's 503 is an answer, not a refusal."""
        response, body, elapsed_ms = self._exchange("GET", "/api/v1/health")
        if response.status == http.client.SERVICE_UNAVAILABLE:
            with suppress(Unreachable):
                document = self._decoded(response, body)
                if document.get("status") == "unhealthy":
                    return Answer(response.status, body, document, elapsed_ms)
        return self._checked(response, body, elapsed_ms)

    def _checked(
        self, response: http.client.HTTPResponse, body: bytes, elapsed_ms: float
    ) -> Answer:
        if 300 <= response.status < 400:
            target = response.getheader("Location", "elsewhere")
            raise self._not_ours(f"answered {response.status} and points to {target}")
        document = self._decoded(response, body)
        if response.status >= 400:
            message = explain(document, response.status, response.getheader("Retry-After", ""))
            raise Refused(message, status=response.status, body=body)
        return Answer(response.status, body, document, elapsed_ms)

    def _exchange(
        self, method: str, target: str, payload: bytes | None = None
    ) -> tuple[http.client.HTTPResponse, bytes, float]:
        started = time.monotonic()
        connection = self._connection()
        headers = self._headers("application/json")
        if payload is not None:
            headers["Content-Type"] = "application/json"
        try:
            # A service may refuse a large body before it is sent whole: its answer is still there.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self.base.prefix + target, payload, headers)
            response = connection.getresponse()
            body = self._body(connection, response, started + self._timeout_s)
        except (OSError, http.client.HTTPException) as fault:
            raise self._unreachable(fault) from fault
        finally:
            connection.close()
        return response, body, (time.monotonic() - started) * 1000

    def _headers(self, accept: str) -> dict[str, str]:
        headers = {"Accept": accept, "User-Agent": "ai-orchestra"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _connection(self) -> http.client.HTTPConnection:
        https = self.base.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        return kind(self.base.host, self.base.port, timeout=self._timeout_s)

    def _body(
        self,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        deadline_s: float,
    ) -> bytes:
        """Read to the end, or raise TimeoutError: a trickle must not outlast the deadline."""
        body = bytearray()
        while chunk := response.read1(65536):
            body += chunk
            if len(body) > _BODY_LIMIT_BYTES:
                raise self._not_ours("sends more than an orchestrator ever would")
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                raise TimeoutError
            if connection.sock is not None:
                connection.sock.settimeout(remaining_s)
        if response.length:
            raise http.client.IncompleteRead(bytes(body), response.length)
        return bytes(body)

    def _decoded(self, response: http.client.HTTPResponse, body: bytes) -> dict[str, object]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as fault:
            kind = response.getheader("Content-Type", "").partition(";")[0] or "an untyped body"
            if kind.endswith("json"):
                kind = "broken JSON"
            raise self._not_ours(f"answered {response.status} with {kind}, not JSON") from fault
        if not isinstance(document, dict):
            raise self._not_ours(f"answered {response.status} with JSON that is not an object")
        return document

    def _not_ours(self, what: str) -> Unreachable:
        return Unreachable(
            f"{self.base.text} {what}: is this the orchestrator's address? "
            "Check --url or ORCHESTRA_URL."
        )

    def _unreachable(self, fault: OSError | http.client.HTTPException) -> Unreachable:
        where = self.base.text
        if isinstance(fault, ConnectionRefusedError):
            return Unreachable(
                f"Nothing listens at {where}. Start the service with 'ai-orchestra up', "
                "or name its address with --url or ORCHESTRA_URL."
            )
        if isinstance(fault, TimeoutError):
            return Unreachable(
                f"{where} gave no whole answer within {self._timeout_s:g} s. "
                "Allow more with --timeout SECONDS."
            )
        return Unreachable(f"{where} {_reason(fault)}. Check --url or ORCHESTRA_URL.")


def _copied(response: http.client.HTTPResponse, sink: BinaryIO) -> int:
    size = 0
    while chunk := response.read1(65536):
        try:
            sink.write(chunk)
        except OSError as fault:
            raise OutputFault(f"The file cannot be written: {fault.strerror}.") from fault
        size += len(chunk)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return size


def _reason(fault: OSError | http.client.HTTPException) -> str:
    if isinstance(fault, socket.gaierror):
        return "names a host that does not resolve"
    if isinstance(fault, ssl.SSLError):
        return f"cannot be reached over TLS: {fault.reason or fault}"
    if isinstance(fault, http.client.IncompleteRead | ConnectionError):
        return "closed the connection before the answer was whole"
    if isinstance(fault, http.client.HTTPException):
        return "does not speak HTTP"
    return f"cannot be reached: {fault.strerror or fault}"

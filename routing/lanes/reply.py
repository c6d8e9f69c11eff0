"""What a handler hands to a door: status, headers, and a body that is whole or streamed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from routing.lanes.contracts import encode
from routing.lanes.problems import Failure

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
SSE_TYPE = "text/event-stream; charset=utf-8"
# ASGI extension of a server that writes a whole answer at once: a function of `send`, the status,
# the header lines and the body, which returns False where the answer has to be sent in messages.
WHOLE = "orchestra.whole"
_TYPE_LINES = {kind: f"content-type: {kind}\r\n".encode() for kind in (JSON_TYPE, PROBLEM_TYPE)}


def _never() -> bool:
    return False


@dataclass(slots=True)
class Reply:
    """An answer in its protocol's own bytes. With `stream`, `body` is empty."""

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)
    # What the caller is told of its limits: header lines as they are sent, which go before others.
    limits: bytes = b""
    stream: AsyncIterator[bytes] | None = None
    # Called when a stream is over, even if it never began: a generator cannot tell of that.
    on_close: Callable[[], Awaitable[None]] | None = None
    # Whether a stream has told all there is to tell; asked after each of its chunks.
    succeeded: Callable[[], bool] = _never

    @classmethod
    def problem(cls, failure: Failure, request_id: str | None = None) -> "Reply":
        """Return `failure` as RFC 9457 problem details."""
        body = encode(failure.problem(request_id))
        return cls(failure.status, body, PROBLEM_TYPE, failure.headers)

    @property
    def all_headers(self) -> dict[str, str]:
        """Return every header but the body's type and length."""
        return {**fields(self.limits), **self.headers} if self.limits else self.headers

    def head(self) -> bytes | None:
        """Return the header lines of a whole answer; None where its server should look at them."""
        kind, more = _TYPE_LINES.get(self.content_type), b""
        if kind is None:
            return None
        if self.headers:
            if not all(v.isascii() and v.isprintable() for v in self.headers.values()):
                return None
            more = "".join([f"{k}: {v}\r\n" for k, v in self.headers.items()]).encode()
        return b"%s%s%scontent-length: %d\r\n" % (kind, self.limits, more, len(self.body))

    async def close(self) -> None:
        """End the stream, whatever state it is in."""
        closing = getattr(self.stream, "aclose", None)
        if closing is not None:
            await closing()
        if self.on_close is not None:
            await self.on_close()


def fields(lines: bytes) -> dict[str, str]:
    """Return header lines by their names."""
    pairs = (line.partition(": ") for line in lines.decode("latin-1").split("\r\n") if line)
    return {name: value for name, _, value in pairs}

"""What a handler hands to a door: status, headers, and a body that is whole or streamed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from routing.lanes.contracts import encode
from routing.lanes.problems import Failure

JSON_TYPE = "application/json"
PROBLEM_TYPE = "application/problem+json"
SSE_TYPE = "text/event-stream; charset=utf-8"


def _never() -> bool:
    return False


@dataclass(slots=True)
class Reply:
    """An answer in its protocol's own bytes. With `stream`, `body` is empty."""

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: dict[str, str] = field(default_factory=dict)
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

    async def close(self) -> None:
        """End the stream, whatever state it is in."""
        closing = getattr(self.stream, "aclose", None)
        if closing is not None:
            await closing()
        if self.on_close is not None:
            await self.on_close()

"""What an answer tells of its caller's limits.

`RateLimit-Limit`, `-Remaining`, `-Reset` and `-Policy` are those of the IETF's
draft-ietf-httpapi-ratelimit-headers-06, the last with a field for each figure, as in wide use; they
tell of the limit that is nearest to its end. OpenAI's clients know `x-ratelimit-*` for requests and
for tokens. Figures are as fresh as this worker's last word with Redis, at most a second old.
"""

import math
from typing import TYPE_CHECKING

from routing.engine.errors import RateLimited

if TYPE_CHECKING:
    from routing.engine.rate_lease import Lease
    from routing.lanes.tolls import Passage


# Which limit is the nearest to its end is seldom another one; how much of it is left, always.
LOOK_EVERY_S = 0.05
# Of the nearest limit and the policy; a template in turn, of what is left and when it is whole.
LINES = (
    b"ratelimit-limit: %d\r\nratelimit-remaining: %%d\r\nratelimit-reset: %%d\r\n"
    b"ratelimit-policy: %s\r\n"
)


def rate_headers(passage: "Passage", now: float) -> bytes:
    """Return the header lines for a caller with limits by the minute or day; none for others."""
    if now >= passage.look_at:
        passage.nearest, _, _ = _nearest(passage.timed, now)
        passage.look_at = now + LOOK_EVERY_S
        if passage.nearest is not None:
            passage.lines = LINES % (passage.nearest.limit.most, passage.policy.encode())
    lease = passage.nearest
    if lease is None:
        return b""
    left = lease.left(now)
    return passage.lines % (left, math.ceil(lease.reset_s(left)))


def openai_headers(passage: "Passage", now: float) -> bytes:
    """Return those, and OpenAI's for requests and for tokens, each where it is limited."""
    request, requests_left, requests_part = _nearest(passage.requests, now)
    token, tokens_left, tokens_part = _nearest(passage.tokens, now)
    told: dict[str, str] = {}
    if request is not None and requests_part <= tokens_part:
        told = _fields(request, requests_left, passage.policy)
    elif token is not None:
        told = _fields(token, tokens_left, passage.policy)
    if request is not None:
        told["x-ratelimit-limit-requests"] = str(request.limit.most)
        told["x-ratelimit-remaining-requests"] = str(requests_left)
        told["x-ratelimit-reset-requests"] = _duration(request.reset_s(requests_left))
    if token is not None:
        told["x-ratelimit-limit-tokens"] = str(token.limit.most)
        told["x-ratelimit-remaining-tokens"] = str(tokens_left)
        told["x-ratelimit-reset-tokens"] = _duration(token.reset_s(tokens_left))
    return "".join([f"{name}: {value}\r\n" for name, value in told.items()]).encode()


def refusal_headers(exc: RateLimited) -> dict[str, str]:
    """Return the headers of a refusal: of the limit it met, whatever the others hold."""
    limit = exc.limit
    wait = str(max(math.ceil(exc.retry_after_s or 0.0), 1))
    told = {
        "retry-after": wait,
        "ratelimit-limit": str(limit.most),
        "ratelimit-remaining": "0",
        "ratelimit-reset": wait,
    }
    if limit.period_us:
        told["ratelimit-policy"] = f"{limit.most};w={limit.period_us // 1_000_000}"
    return told


def _nearest(leases: "tuple[Lease, ...]", now: float) -> "tuple[Lease | None, int, float]":
    """Return the limit of which the least part is left, how much that is, and which part."""
    nearest, least, part = None, 0, math.inf
    for lease in leases:
        left = lease.left(now)
        if left < part * lease.burst:
            nearest, least, part = lease, left, left / lease.burst
    return nearest, least, part


def _fields(lease: "Lease", left: int, policy: str) -> dict[str, str]:
    return {
        "ratelimit-limit": str(lease.limit.most),
        "ratelimit-remaining": str(left),
        "ratelimit-reset": str(math.ceil(lease.reset_s(left))),
        "ratelimit-policy": policy,
    }


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: `20ms`, `1.5s`, `6m0s`, `2h3m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{round(seconds, 3):g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest}s"
    return f"{minutes // 60}h{minutes % 60}m{rest}s"

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


def rate_headers(passage: "Passage", now: float) -> dict[str, str]:
    """Return the headers for a caller with limits by the minute or day; none for others."""
    lease = _nearest(passage.requests + passage.tokens, now)
    if lease is None:
        return {}
    return _fields(lease.limit.most, lease.left(now), lease.reset_s(now), passage.policy)


def openai_headers(passage: "Passage", now: float) -> dict[str, str]:
    """Return those, and OpenAI's for requests and for tokens, each where it is limited."""
    told = rate_headers(passage, now)
    for unit, leases in (("requests", passage.requests), ("tokens", passage.tokens)):
        lease = _nearest(leases, now)
        if lease is not None:
            told[f"x-ratelimit-limit-{unit}"] = str(lease.limit.most)
            told[f"x-ratelimit-remaining-{unit}"] = str(lease.left(now))
            told[f"x-ratelimit-reset-{unit}"] = _duration(lease.reset_s(now))
    return told


def refusal_headers(exc: RateLimited) -> dict[str, str]:
    """Return the headers of a refusal: of the limit it met, whatever the others hold."""
    wait_s, limit = exc.retry_after_s or 0.0, exc.limit
    wait = str(max(math.ceil(wait_s), 1))
    policy = f"{limit.most};w={limit.period_us // 1_000_000}" if limit.period_us else ""
    return {"retry-after": wait} | _fields(limit.most, 0, wait_s, policy)


def _nearest(leases: "tuple[Lease, ...]", now: float) -> "Lease | None":
    """Return the limit of which the least part is left."""
    if len(leases) < 2:
        return leases[0] if leases else None
    return min(leases, key=lambda lease: lease.left(now) / lease.limit.most)


def _fields(most: int, left: int, reset_s: float, policy: str) -> dict[str, str]:
    told = {
        "ratelimit-limit": str(most),
        "ratelimit-remaining": str(left),
        "ratelimit-reset": str(math.ceil(reset_s)),
    }
    if policy:
        told["ratelimit-policy"] = policy
    return told


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

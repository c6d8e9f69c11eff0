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
    from routing.engine.rate_book import Book
    from routing.engine.rate_lease import Lease
    from routing.lanes.tolls import Passage


# Which limit is the nearest to its end is seldom another one; how much of it is left, always.
LOOK_EVERY_S = 0.05
# Templates of a limit and what is left of it: what is known for longer is filled in first.
LINES = (
    b"ratelimit-limit: %d\r\nratelimit-remaining: %%d\r\nratelimit-reset: %%d\r\n"
    b"ratelimit-policy: %s\r\n"
)
OPENAI_LINES = (
    b"x-ratelimit-limit-%(unit)s: %(most)d\r\nx-ratelimit-remaining-%(unit)s: %%d\r\n"
    b"x-ratelimit-reset-%(unit)s: %%s\r\n"
)


class Told:
    """Which limits a caller is told of, and in which lines, until they are looked for again."""

    __slots__ = (
        "base", "book", "burst", "leases", "lines", "look_at", "nearest", "of_tokens", "pace_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.look_at = -math.inf
        self.book: Book | None = None  # that was open then
        self.base = 0  # what was left of the nearest, without what the book had
        self.leases: tuple[Lease, ...] = ()  # the nearest of each kind
        self.nearest = 0  # which of them is the nearest of all
        self.of_tokens = False  # the nearest is of tokens
        self.burst, self.pace_s = 0, 0.0  # of the nearest
        self.lines = b""

    def look(self, passage: "Passage", now: float, *kinds: "tuple[Lease, ...]") -> None:
        """Look for the nearest of each kind."""
        self.look_at, self.book = now + LOOK_EVERY_S, passage.book
        found = [one for leases in kinds if (one := _nearest(passage, leases, now))]
        self.leases = tuple([lease for _, lease in found])
        if found:
            self.nearest = min(range(len(found)), key=lambda n: found[n][0])
            lease = self.leases[self.nearest]
            self.base, self.of_tokens = lease.left(now), lease.unit == "tokens"
            self.burst, self.pace_s = lease.burst, lease.pace_s
            self.lines = LINES % (lease.limit.most, passage.policy.encode())


def rate_headers(passage: "Passage", now: float) -> bytes:
    """Return the header lines for a caller with limits by the minute or day; none for others."""
    told, book = passage.native, passage.book
    if now >= told.look_at or book is not told.book:
        told.look(passage, now, passage.timed)
    if book is not None:
        # While it is open, this caller's requests change nothing else.
        ahead = book.tokens if told.of_tokens else book.requests
        left = told.base + ahead if ahead > 0 else told.base
        return told.lines % (left, math.ceil((told.burst - left) / told.pace_s))
    if not told.leases:
        return b""
    lease = told.leases[0]
    left = lease.left(now)
    return told.lines % (left, math.ceil(lease.reset_s(left)))


def openai_headers(passage: "Passage", now: float) -> bytes:
    """Return those, and OpenAI's for requests and for tokens, each where it is limited."""
    told = passage.openai
    if now >= told.look_at:
        told.look(passage, now, passage.requests, passage.tokens)
        told.lines += b"".join([_openai_lines(lease) for lease in told.leases])
    if not told.leases:
        return b""
    figures = []
    for lease in told.leases:
        left = passage.left(lease, now)
        figures.append((left, lease.reset_s(left)))
    left, reset_s = figures[told.nearest]
    more = [one for left, reset_s in figures for one in (left, _duration(reset_s).encode())]
    return told.lines % (left, math.ceil(reset_s), *more)


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


def _nearest(
    passage: "Passage", leases: "tuple[Lease, ...]", now: float
) -> "tuple[float, Lease] | None":
    """Return which part is left of the limit with the least left, and its lease."""
    parts = [(passage.left(lease, now) / lease.burst, lease) for lease in leases]
    return min(parts, key=lambda one: one[0], default=None)


def _openai_lines(lease: "Lease") -> bytes:
    return OPENAI_LINES % {b"unit": lease.unit.encode(), b"most": lease.limit.most}


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

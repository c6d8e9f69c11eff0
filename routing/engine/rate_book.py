"""Units taken ahead of a caller's leases, from which its next requests are served. Pure.

A request of a caller with four limits changes four leases when it comes and two when it ends. Where
units are plentiful, it changes one book instead, and the leases once for hundreds of requests. A
book lives for a moment: what is left in it is given back, and requests that are still under way
settle with the leases themselves.
"""

from collections.abc import Sequence

from routing.engine.rate_lease import Hurry, Lease, Taken, settle, take

# One in so many of the units that a worker holds are in a book, so others find enough.
PART = 8
# A book that would serve fewer requests is not worth its making.
LEAST_REQUESTS = 16
# Where requests or tokens are not limited.
WITHOUT_END = 2**62


class Book:
    """Requests and tokens that may be taken until `ends_at`, a time of the worker's clock."""

    __slots__ = (
        "_all_requests", "_all_tokens", "_asked", "_requests_of", "_spent", "_tokens_of",
        "ends_at", "hurry", "is_open", "requests", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        requests: int,
        requests_of: "Sequence[Lease]",
        tokens: int,
        tokens_of: "Sequence[Lease]",
        ends_at: float,
        hurry: Hurry,
    ) -> None:
        """Take so many requests and tokens of each of these leases, which hold them."""
        self.requests = self._all_requests = requests
        self.tokens = self._all_tokens = tokens  # below zero: owed
        self.ends_at, self.hurry, self.is_open = ends_at, hurry, True
        self._asked = self._spent = 0  # tokens
        self._requests_of = take(requests_of, requests, hurry)
        self._tokens_of = take(tokens_of, tokens, hurry)

    def take(self, tokens: int, now: float) -> bool:
        """Take a request and so many tokens, or nothing; return which."""
        if self.requests < 1 or self.tokens < tokens or now >= self.ends_at:
            return False
        self.requests -= 1
        self.tokens -= tokens
        self._asked += tokens
        return True

    def settle(self, taken: int, spent: int) -> None:
        """End a request: tokens that it took and did not spend come back."""
        if self.is_open:
            self.tokens += taken - spent
            self._spent += spent
        else:
            settle([(one, taken, term) for one, _, term in self._tokens_of], spent, self.hurry)

    def close(self) -> None:
        """Give back what is left, once; what requests under way have stays taken."""
        if not self.is_open:
            return
        self.is_open = False
        left = self.requests
        settle(self._requests_of, self._all_requests - left, self.hurry)
        _not_used(self._requests_of, left)
        # All but what is left and what was spent is under way.
        done = self.tokens + self._spent
        settle([(one, done, term) for one, _, term in self._tokens_of], self._spent, self.hurry)
        _not_used(self._tokens_of, self._all_tokens - self._asked)


def _not_used(taken: list[Taken], units: int) -> None:
    """Say that so many units were taken ahead in vain: they tell nothing of the caller's pace."""
    for lease, _, _ in taken:
        lease.used = max(lease.used - units, 0)


def room(leases: Sequence[Lease]) -> int:
    """Return how many units of each of them may be taken ahead: none while somebody waits."""
    if any(lease.waiting for lease in leases):
        return 0
    return min([lease.held for lease in leases], default=WITHOUT_END) // PART


def booked(
    requests_of: Sequence[Lease],
    tokens_of: Sequence[Lease],
    tokens: int,
    ends_at: float,
    hurry: Hurry,
) -> Book | None:
    """Return a book for requests of about so many tokens; None where units are not plentiful."""
    requests, many = room(requests_of), room(tokens_of)
    if requests < LEAST_REQUESTS or many < LEAST_REQUESTS * tokens:
        return None
    return Book(requests, requests_of, many, tokens_of, ends_at, hurry)

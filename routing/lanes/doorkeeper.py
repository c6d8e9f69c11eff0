"""Who is at the door: callers told apart by the API keys they send."""

import time
from collections.abc import Callable

from routing.engine.callers import ANONYMOUS, NEVER, Caller
from routing.engine.errors import Unidentified
from routing.engine.policy import Policy
from routing.policy import tokens

SCHEME = b"bearer"
MARK = tokens.MARK.encode()
# Hashing a token costs more than all the rest of the check.
MOST_REMEMBERED = 10_000


class Doorkeeper:
    """Finds the caller of a token by the keyed hash of the whole token, never by a part of it.

    The policy's own index is asked each time, so a key that a new policy leaves out is refused from
    that moment on. Only hashes are remembered, of valid tokens, each under the whole header.
    """

    __slots__ = ("_clock", "_digests", "_key", "required")

    def __init__(
        self, key: bytes, *, required: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.required = required  # whether everybody needs a key
        self._key = key
        self._clock = clock
        self._digests: dict[bytes, bytes] = {}

    def caller(self, policy: Policy, authorization: bytes | None) -> Caller:
        """Return who sent the header; ANONYMOUS without a key where none is required.

        Raises Unidentified for a key that is missing, unknown, expired or revoked.
        """
        if authorization is None:
            return self._stranger()
        digest = remembered = self._digests.get(authorization)
        if digest is None:
            token = self._token(authorization)
            if not token:
                return self._stranger()
            digest = tokens.digest(token, self._key)
        caller = policy.caller_by_digest.get(digest)
        if caller is None or (caller.expires_at_s < NEVER and self._clock() >= caller.expires_at_s):
            raise Unidentified(given=True)
        if remembered is None:
            self._remember(authorization, digest)
        return caller

    def _token(self, authorization: bytes) -> bytes:
        """Return the token to look for; empty where the header holds none."""
        scheme, _, rest = authorization.partition(b" ")
        token = rest.strip()
        if scheme.lower() != SCHEME:
            return b""
        if not self.required and not token.startswith(MARK):
            # Clients made for other services must send something; it is no key of ours.
            return b""
        if len(token) > tokens.LONGEST_TOKEN:
            raise Unidentified(given=True)
        return token

    def _remember(self, authorization: bytes, digest: bytes) -> None:
        if len(self._digests) >= MOST_REMEMBERED:
            self._digests.clear()
        self._digests[authorization] = digest

    def _stranger(self) -> Caller:
        if self.required:
            raise Unidentified(given=False)
        return ANONYMOUS

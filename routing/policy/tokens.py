"""API keys as tokens: made here, told apart by a keyed hash of the whole of them.

A token is `ao_<tenant>_<random>`: recognisable by people and by scanners of leaked secrets, with
256 bits of randomness. Kept is its HMAC-SHA256 under a key derived from the service's secret for
this purpose alone, so a stored digest authenticates nobody, tells nothing without the secret, and
nothing else that the secret signs passes for a token. No Django: workers use it too.
"""

import hmac
import re
import secrets
import string

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PURPOSE = b"ai-orchestra api key digests v1"
MARK = "ao_"
RANDOM_BYTES = 32
# Enough base62 digits for 256 bits.
RANDOM_CHARS = 43
# How much of the random part people are shown: 36 of 256 bits.
SHOWN_CHARS = 6
LONGEST_TENANT = 20
LONGEST_TOKEN = 200
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


class Minted(msgspec.Struct, frozen=True):
    """A new key: the token is for its owner's eyes, the rest is what is kept."""

    token: str
    prefix: str
    digest: str

    def __repr__(self) -> str:
        return f"Minted({self.prefix}…)"


def digest_key(secret: str) -> bytes:
    """Return the key that tokens are hashed under, derived from the service's secret."""
    return HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(secret.encode())


def digest(token: bytes, key: bytes) -> bytes:
    """Return the keyed hash of a whole token."""
    return hmac.digest(key, token, "sha256")


def mint(tenant: str, key: bytes) -> Minted:
    """Return a new token for a tenant, with what is kept of it."""
    readable = re.sub(r"[^a-z0-9]+", "-", tenant.lower())[:LONGEST_TENANT].strip("-") or "key"
    begin = f"{MARK}{readable}_"
    token = begin + _base62(int.from_bytes(secrets.token_bytes(RANDOM_BYTES)))
    shown = token[: len(begin) + SHOWN_CHARS]
    return Minted(token, shown, digest(token.encode(), key).hex())


def _base62(number: int) -> str:
    digits = []
    for _ in range(RANDOM_CHARS):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))

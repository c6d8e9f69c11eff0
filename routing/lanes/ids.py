"""Request identities: UUIDv7, so that they sort by time and spread over no index at random."""

import os
import random
import time

# The PRNG is seeded from the system's entropy once a process: an id must be unique, not secret.
_random = random.Random(int.from_bytes(os.urandom(16), "big"))  # noqa: S311
_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)


def new_id(now_ns: int | None = None) -> tuple[bytes, str]:
    """Return one new UUIDv7 as its 16 bytes and as text (RFC 9562, section 5.7)."""
    unix_ms = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    bits = _random.getrandbits(74)
    value = (unix_ms << 80) | _VERSION_AND_VARIANT | ((bits >> 62) << 64) | (bits & (2**62 - 1))
    raw = value.to_bytes(16, "big")
    text = raw.hex()
    return raw, f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

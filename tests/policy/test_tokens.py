"""Tokens: recognisable, unguessable, and known by a keyed hash of the whole of them."""

import re

import pytest

from routing.policy import tokens
from routing.policy.tokens import digest, digest_key, mint

SECRET = "a planted secret of the service, long enough"
KEY = digest_key(SECRET)


@pytest.mark.parametrize(
    ("tenant", "begin"),
    [
        ("acme", "ao_acme_"),
        ("Acme.Labs_EU", "ao_acme-labs-eu_"),
        ("a" * 100, f"ao_{'a' * 20}_"),
        ("...", "ao_key_"),
    ],
)
def test_a_token_tells_whose_it_is(tenant: str, begin: str) -> None:
    minted = mint(tenant, KEY)
    assert minted.token.startswith(begin)
    assert re.fullmatch(r"ao_[a-z0-9-]+_[0-9A-Za-z]{43}", minted.token)
    assert minted.prefix == minted.token[: len(begin) + 6]
    assert len(minted.prefix) <= 40
    assert len(minted.token) <= tokens.LONGEST_TOKEN


def test_no_two_are_alike() -> None:
    assert len({mint("acme", KEY).token for _ in range(1000)}) == 1000


def test_the_digest_is_of_the_whole_token_and_under_the_secret() -> None:
    minted = mint("acme", KEY)
    assert digest(minted.token.encode(), KEY).hex() == minted.digest
    assert digest(minted.token[:-1].encode(), KEY).hex() != minted.digest
    assert digest(minted.token.encode(), digest_key(SECRET + "x")).hex() != minted.digest


def test_the_key_serves_no_other_purpose() -> None:
    assert SECRET.encode() != KEY
    assert len(KEY) == 32
    assert digest_key(SECRET) == KEY  # every worker derives the same


def test_its_repr_does_not_hold_it() -> None:
    minted = mint("acme", KEY)
    assert minted.token not in repr(minted)

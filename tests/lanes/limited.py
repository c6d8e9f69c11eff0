"""Callers with limits on a stage: keys, tokens, and requests that come with them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from routing.engine.catalog import KeySpec, PolicyDocument, TenantSpec
from routing.lanes.doorkeeper import Doorkeeper
from routing.policy import tokens
from tests.lanes.stage import HEADERS, Heard, Stage

SECRET = tokens.digest_key("a secret of these tests")
CI = tokens.mint("acme", SECRET)
OTHER = tokens.mint("acme", SECRET)
FREE = tokens.mint("free", SECRET)


def limited(
    policy: PolicyDocument, *, tenant: dict[str, Any] | None = None, **key: Any
) -> PolicyDocument:
    """Return the policy with tenant `acme`, keys `ci` (limits given) and `other`, and `free`."""
    return msgspec.structs.replace(
        policy,
        tenants=(TenantSpec(name="acme", **(tenant or {})), TenantSpec(name="free")),
        keys=(
            KeySpec(name="ci", tenant="acme", prefix=CI.prefix, digest=CI.digest, **key),
            KeySpec(name="other", tenant="acme", prefix=OTHER.prefix, digest=OTHER.digest),
            KeySpec(name="free", tenant="free", prefix=FREE.prefix, digest=FREE.digest),
        ),
    )


def known(stage: Stage) -> Stage:
    """Let the stage's door know these keys."""
    stage.runtime.doorkeeper = Doorkeeper(SECRET)
    return stage


def headers(who: tokens.Minted) -> Iterable[tuple[bytes, bytes]]:
    return [*HEADERS, (b"authorization", b"Bearer " + who.token.encode())]


async def post(stage: Stage, path: str, body: Any, who: tokens.Minted = CI) -> Heard:
    return await stage.send(path, msgspec.json.encode(body), headers=headers(who))

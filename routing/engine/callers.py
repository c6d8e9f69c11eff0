"""Whose requests they are: an API key with its tenant, as the lanes need them. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping

import msgspec

from routing.engine.catalog import KeySpec, LimitsSpec, TenantSpec

NO_LIMITS = LimitsSpec()
NEVER = math.inf  # as an epoch second


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `allowed` holds catalogue names; None: every model."""

    tenant: str = ""
    key: str = ""  # the name of the API key
    allowed: frozenset[str] | None = None
    share: float = 1.0  # its tenant's part of a contended endpoint
    key_limits: LimitsSpec = NO_LIMITS
    tenant_limits: LimitsSpec = NO_LIMITS
    expires_at_s: float = NEVER  # epoch seconds

    def may_use(self, model: str) -> bool:
        """Return True if this model of the catalogue may answer it."""
        return self.allowed is None or model in self.allowed

    @property
    def scope(self) -> bytes:
        """What keeps one caller's Idempotency-Keys apart from another's; no name holds a zero."""
        return f"{self.tenant}\0{self.key}".encode()


ANONYMOUS = Caller()
"""Nobody said who; possible on loopback only."""


def callers_by_digest(
    tenants: Mapping[str, TenantSpec],
    keys: Iterable[KeySpec],
    find_model: Callable[[str], str | None],
) -> dict[bytes, Caller]:
    """Return who comes with which token, by the digest of the whole token.

    Only keys of the given tenants are among them; `find_model` finds the catalogue's spelling.
    """
    return {
        bytes.fromhex(key.digest): _caller(tenants[key.tenant], key, find_model)
        for key in keys
        if key.tenant in tenants
    }


def _caller(tenant: TenantSpec, key: KeySpec, find_model: Callable[[str], str | None]) -> Caller:
    return Caller(
        tenant=tenant.name,
        key=key.name,
        allowed=_both(_names(tenant, find_model), _names(key, find_model)),
        share=tenant.share,
        key_limits=key,
        tenant_limits=tenant,
        expires_at_s=NEVER if key.expires_at is None else key.expires_at.timestamp(),
    )


def _names(
    spec: TenantSpec | KeySpec, find_model: Callable[[str], str | None]
) -> frozenset[str] | None:
    """Return the models that a list allows; one of unknown names only allows none."""
    if not spec.allowed_models:
        return None
    return frozenset(find_model(name) or name for name in spec.allowed_models)


def _both(tenant: frozenset[str] | None, key: frozenset[str] | None) -> frozenset[str] | None:
    if tenant is None or key is None:
        return key if tenant is None else tenant
    return tenant & key

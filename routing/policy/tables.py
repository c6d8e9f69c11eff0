"""A policy as dictionaries by kind and key, which is how a file and the database are compared."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from routing.engine.catalog import (
    BudgetSpec,
    ChainSpec,
    EndpointSpec,
    HostCostSpec,
    KeySpec,
    ModelSpec,
    OfferingSpec,
    PolicyDocument,
    PriceSpec,
    ProfileSpec,
    SavingsSpec,
    TenantSpec,
)

Spec = (
    ModelSpec
    | EndpointSpec
    | OfferingSpec
    | ChainSpec
    | ProfileSpec
    | TenantSpec
    | KeySpec
    | PriceSpec
    | HostCostSpec
    | BudgetSpec
    | SavingsSpec
)

KINDS: dict[str, type[Spec]] = {
    "models": ModelSpec,
    "endpoints": EndpointSpec,
    "offerings": OfferingSpec,
    "chains": ChainSpec,
    "profiles": ProfileSpec,
    "tenants": TenantSpec,
    "keys": KeySpec,
    "prices": PriceSpec,
    "host_costs": HostCostSpec,
    "budgets": BudgetSpec,
    "savings": SavingsSpec,
}
# Sections that hold one object instead of a list of them.
SINGLE = frozenset({"savings"})
# Resolving a Struct's annotations takes longer than reading one object.
FIELDS: dict[type[Spec], dict[str, msgspec.structs.FieldInfo]] = {
    spec: {field.name: field for field in msgspec.structs.fields(spec)} for spec in KINDS.values()
}


def key(spec: Spec) -> str:
    """Return what identifies an object within its kind."""
    if isinstance(spec, OfferingSpec):
        return f"{spec.model}@{spec.endpoint}"
    if isinstance(spec, PriceSpec):
        return f"{spec.model}@{moment(spec.valid_from)}"
    if isinstance(spec, HostCostSpec):
        return spec.host
    if isinstance(spec, SavingsSpec):
        return "savings"
    return spec.priority if isinstance(spec, ProfileSpec) else spec.name


def moment(when: datetime) -> str:
    """Return a moment as it is written in files: in UTC, RFC 3339."""
    if when.utcoffset() is None:
        return when.isoformat()
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def objects(document: PolicyDocument, kind: str) -> tuple[Spec, ...]:
    """Return the objects of one kind."""
    found: Any = getattr(document, kind)
    return (found,) if kind in SINGLE else tuple(found)


@dataclass(slots=True)
class Tables:
    """Every object of a policy by its key."""

    models: dict[str, ModelSpec] = field(default_factory=dict)
    endpoints: dict[str, EndpointSpec] = field(default_factory=dict)
    offerings: dict[str, OfferingSpec] = field(default_factory=dict)
    chains: dict[str, ChainSpec] = field(default_factory=dict)
    profiles: dict[str, ProfileSpec] = field(default_factory=dict)
    tenants: dict[str, TenantSpec] = field(default_factory=dict)
    keys: dict[str, KeySpec] = field(default_factory=dict)
    prices: dict[str, PriceSpec] = field(default_factory=dict)
    host_costs: dict[str, HostCostSpec] = field(default_factory=dict)
    budgets: dict[str, BudgetSpec] = field(default_factory=dict)
    savings: dict[str, SavingsSpec] = field(default_factory=dict)

    @classmethod
    def of(cls, document: PolicyDocument) -> "Tables":
        found: dict[str, Any] = {
            kind: {key(spec): spec for spec in objects(document, kind)} for kind in KINDS
        }
        return cls(**found)

    def kind(self, kind: str) -> dict[str, Spec]:
        """Return one kind's objects, for what is done to all kinds alike."""
        found: dict[str, Spec] = getattr(self, kind)
        return found

    def offered(self) -> set[str]:
        """Return the models that an enabled endpoint offers."""
        return {
            offering.model
            for offering in self.offerings.values()
            if offering.enabled
            and (endpoint := self.endpoints.get(offering.endpoint)) is not None
            and endpoint.enabled
        }

    def drop_orphans(self, kept: Container[tuple[str, str]]) -> None:
        """Forget what goes with an object that is gone, except what is `kept` (kind, key)."""
        self.offerings = {
            name: offering
            for name, offering in self.offerings.items()
            if ("offerings", name) in kept
            or (offering.model in self.models and offering.endpoint in self.endpoints)
        }
        self.keys = {
            name: spec
            for name, spec in self.keys.items()
            if ("keys", name) in kept or spec.tenant in self.tenants
        }
        self.prices = {
            name: spec
            for name, spec in self.prices.items()
            if ("prices", name) in kept or spec.model in self.models
        }

    def enabled_chains(self) -> Iterator[tuple[str, ChainSpec]]:
        return ((name, chain) for name, chain in self.chains.items() if chain.enabled)


class Loose(NamedTuple):
    """A name of what is not there: in which object and field, and of which kind it should be."""

    kind: str
    key: str
    field: str
    wanted: str
    name: str


_SUBJECTS = {"tenant": "tenants", "key": "keys", "model": "models"}


def loose_names(tables: Tables) -> Iterator[Loose]:
    """Yield every name that nothing bears, in objects that do not go with what they name."""
    for found in _named(tables):
        if found.name and found.name not in tables.kind(found.wanted):
            yield found


def _named(tables: Tables) -> Iterator[Loose]:
    for kind, limited in (("tenants", tables.tenants), ("keys", tables.keys)):
        for name, spec in limited.items():
            for index, model in enumerate(spec.allowed_models):
                yield Loose(kind, name, f"allowed_models[{index}]", "models", model)
    for name, budget in tables.budgets.items():
        if wanted := _SUBJECTS.get(budget.scope):
            yield Loose("budgets", name, "subject", wanted, budget.subject)
    for name, savings in tables.savings.items():
        yield Loose("savings", name, "baseline", "models", savings.baseline)

"""A policy as dictionaries by kind and key, which is how a file and the database are compared."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from routing.engine.catalog import (
    ChainSpec,
    EndpointSpec,
    ModelSpec,
    OfferingSpec,
    PolicyDocument,
    ProfileSpec,
)

Spec = ModelSpec | EndpointSpec | OfferingSpec | ChainSpec | ProfileSpec

KINDS: dict[str, type[Spec]] = {
    "models": ModelSpec,
    "endpoints": EndpointSpec,
    "offerings": OfferingSpec,
    "chains": ChainSpec,
    "profiles": ProfileSpec,
}
# Resolving a Struct's annotations takes longer than reading one object.
FIELDS: dict[type[Spec], dict[str, msgspec.structs.FieldInfo]] = {
    spec: {field.name: field for field in msgspec.structs.fields(spec)} for spec in KINDS.values()
}


def key(spec: Spec) -> str:
    """Return what identifies an object within its kind."""
    if isinstance(spec, OfferingSpec):
        return f"{spec.model}@{spec.endpoint}"
    return spec.priority if isinstance(spec, ProfileSpec) else spec.name


@dataclass(slots=True)
class Tables:
    """Every object of a policy by its key."""

    models: dict[str, ModelSpec] = field(default_factory=dict)
    endpoints: dict[str, EndpointSpec] = field(default_factory=dict)
    offerings: dict[str, OfferingSpec] = field(default_factory=dict)
    chains: dict[str, ChainSpec] = field(default_factory=dict)
    profiles: dict[str, ProfileSpec] = field(default_factory=dict)

    @classmethod
    def of(cls, document: PolicyDocument) -> "Tables":
        return cls(**{kind: {key(s): s for s in getattr(document, kind)} for kind in KINDS})

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

    def drop_orphans(self, kept: set[str]) -> None:
        """Forget offerings whose model or endpoint is gone, except the `kept` ones."""
        self.offerings = {
            name: offering
            for name, offering in self.offerings.items()
            if name in kept
            or (offering.model in self.models and offering.endpoint in self.endpoints)
        }

    def enabled_chains(self) -> Iterator[tuple[str, ChainSpec]]:
        return ((name, chain) for name, chain in self.chains.items() if chain.enabled)

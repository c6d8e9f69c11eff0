"""The policy's tables as one value: sixteen queries, however many rows."""

from collections import defaultdict

from django.db import transaction
from django.db.models import F

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
from routing.models import (
    ApiKey,
    Budget,
    ChainEntry,
    Endpoint,
    FallbackChain,
    HostCost,
    Model,
    Offering,
    PolicyVersion,
    Price,
    RoutingProfile,
    Savings,
    Tenant,
)

_ATTEMPTS = 5


def policy_version() -> int:
    """Return how many changes of the policy were committed (and this transaction's own)."""
    row = PolicyVersion.objects.filter(pk=PolicyVersion.ONLY).values_list("version").first()
    return row[0] if row else 0


def lock_policy() -> None:
    """Make other writers of the policy wait until this transaction ends."""
    PolicyVersion.objects.get_or_create(pk=PolicyVersion.ONLY)
    PolicyVersion.objects.select_for_update().get(pk=PolicyVersion.ONLY)


def document_from_orm() -> PolicyDocument:
    """Return the whole policy as of one version, disabled objects included, each kind by name.

    Whatever changes a table changes the version in the same transaction, so reading the same
    version before and after proves that no change came in between.
    """
    for _ in range(_ATTEMPTS):
        version = policy_version()
        document = _read(version)
        if policy_version() == version:
            return document
    with transaction.atomic():
        lock_policy()
        return _read(policy_version())


def _read(version: int) -> PolicyDocument:
    return PolicyDocument(
        models=_models(),
        endpoints=_endpoints(),
        offerings=_offerings(),
        chains=_chains(),
        profiles=_profiles(),
        tenants=_tenants(),
        keys=_keys(),
        prices=_prices(),
        host_costs=_host_costs(),
        budgets=_budgets(),
        savings=_savings(),
        version=version,
    )


def _models() -> tuple[ModelSpec, ...]:
    fields = ModelSpec.__struct_fields__
    rows = Model.objects.order_by("name").values(*fields)
    return tuple(
        ModelSpec(
            **{
                **row,
                "capabilities": tuple(row["capabilities"]),
                "best_for": tuple(row["best_for"]),
            }
        )
        for row in rows.iterator()
    )


def _endpoints() -> tuple[EndpointSpec, ...]:
    rows = Endpoint.objects.order_by("name").values(*EndpointSpec.__struct_fields__)
    return tuple(EndpointSpec(**row) for row in rows)


def _offerings() -> tuple[OfferingSpec, ...]:
    models = dict(Model.objects.values_list("pk", "name"))
    endpoints = dict(Endpoint.objects.values_list("pk", "name"))
    rows = Offering.objects.order_by().values_list(
        "model_id", "endpoint_id", "upstream_model", "num_ctx", "keep_alive", "enabled"
    )
    specs = [
        OfferingSpec(
            model=models[model],
            endpoint=endpoints[endpoint],
            upstream_model=upstream_model,
            num_ctx=num_ctx,
            keep_alive=keep_alive,
            enabled=enabled,
        )
        for model, endpoint, upstream_model, num_ctx, keep_alive, enabled in rows.iterator()
        # A model added since the names were read; the version tells, and all is read again.
        if model in models and endpoint in endpoints
    ]
    return tuple(sorted(specs, key=lambda offering: (offering.model, offering.endpoint)))


def _chains() -> tuple[ChainSpec, ...]:
    members: dict[int, list[str]] = defaultdict(list)
    for chain_id, name in ChainEntry.objects.values_list("chain_id", "model__name"):
        members[chain_id].append(name)
    chains = FallbackChain.objects.select_related("for_model").order_by("name")
    return tuple(chain.spec(tuple(members[chain.pk])) for chain in chains)


def _profiles() -> tuple[ProfileSpec, ...]:
    rows = RoutingProfile.objects.order_by("id").values(*ProfileSpec.__struct_fields__)
    return tuple(ProfileSpec(**row) for row in rows)


def _tenants() -> tuple[TenantSpec, ...]:
    rows = Tenant.objects.order_by("name").values(*TenantSpec.__struct_fields__)
    return tuple(
        TenantSpec(**{**row, "allowed_models": tuple(row["allowed_models"])}) for row in rows
    )


def _keys() -> tuple[KeySpec, ...]:
    fields = [name for name in KeySpec.__struct_fields__ if name != "tenant"]
    rows = ApiKey.objects.order_by("name").values(*fields, tenant_name=F("tenant__name"))
    return tuple(
        KeySpec(
            tenant=row.pop("tenant_name"),
            **{**row, "allowed_models": tuple(row["allowed_models"])},
        )
        for row in rows
    )


def _prices() -> tuple[PriceSpec, ...]:
    fields = [name for name in PriceSpec.__struct_fields__ if name != "model"]
    rows = Price.objects.order_by("model__name", "valid_from").values(
        *fields, model_name=F("model__name")
    )
    return tuple(PriceSpec(model=row.pop("model_name"), **row) for row in rows)


def _host_costs() -> tuple[HostCostSpec, ...]:
    rows = HostCost.objects.order_by("host").values(*HostCostSpec.__struct_fields__)
    return tuple(HostCostSpec(**row) for row in rows)


def _budgets() -> tuple[BudgetSpec, ...]:
    return tuple(budget.spec() for budget in Budget.objects.order_by("name"))


def _savings() -> SavingsSpec:
    row = Savings.objects.values(*SavingsSpec.__struct_fields__).first()
    return SavingsSpec(**row) if row else SavingsSpec()

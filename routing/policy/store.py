"""Writes a plan to the database, as far as it changes anything, and into the admin's history."""

from collections.abc import Iterable
from typing import Any

import msgspec
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db import models

from routing.engine.catalog import ChainSpec, KeySpec, OfferingSpec, PriceSpec
from routing.models import (
    ApiKey,
    Budget,
    ChainEntry,
    Endpoint,
    FallbackChain,
    HostCost,
    Model,
    Offering,
    Origin,
    Price,
    RoutingProfile,
    Savings,
    Tenant,
)
from routing.policy.planning import Plan
from routing.policy.report import Action, Change
from routing.policy.tables import Spec

BATCH = 1000
TABLES: dict[str, type[models.Model]] = {
    "models": Model,
    "endpoints": Endpoint,
    "offerings": Offering,
    "chains": FallbackChain,
    "profiles": RoutingProfile,
    "tenants": Tenant,
    "keys": ApiKey,
    "prices": Price,
    "host_costs": HostCost,
    "budgets": Budget,
    "savings": Savings,
}
# What their rows are named after.
RELATED: dict[str, tuple[str, ...]] = {
    "offerings": ("model", "endpoint"),
    "keys": ("tenant",),
    "prices": ("model",),
}


class Store:
    """One plan on its way into the tables; belongs in a transaction that locks the policy."""

    def __init__(self, plan: Plan, actor: str) -> None:
        self._plan = plan
        self._user = get_user_model()._default_manager.filter(username=actor).first()
        self._history: list[LogEntry] = []

    def write(self) -> None:
        """Carry out every change: what others refer to comes first and goes last."""
        for kind in ("chains", "offerings", "keys", "prices", "host_costs", "budgets"):
            self._remove(kind)
        for kind in ("models", "endpoints", "profiles", "tenants"):
            self._change(kind)
            self._add(kind)
        for kind in ("offerings", "keys", "prices", "host_costs", "budgets"):
            self._change(kind)
            self._add(kind)
        self._set_savings()
        self._change_chains()
        self._add("chains")
        for kind in ("endpoints", "models", "profiles", "tenants"):
            self._remove(kind)
        LogEntry.objects.bulk_create(self._history, batch_size=BATCH)

    def _of(self, kind: str, action: Action) -> dict[str, Change]:
        return {c.name: c for c in self._plan.changes if (c.kind, c.action) == (kind, action)}

    def _remove(self, kind: str) -> None:
        rows = list(_rows(kind, self._of(kind, "removed")).values())
        self._note(rows, DELETION, "removed")
        TABLES[kind]._default_manager.filter(pk__in=[row.pk for row in rows]).delete()

    def _change(self, kind: str) -> None:
        changes = self._of(kind, "changed")
        if not changes:
            return
        columns = _Columns(kind)
        for name, row in _rows(kind, changes).items():
            fields = [field.field for field in changes[name].fields]
            for column, value in columns.of(self._plan.after.kind(kind)[name]).items():
                if column.removesuffix("_id") in fields:
                    setattr(row, column, value)
            _save(row, fields)
            self._note([row], CHANGE, f"changed {', '.join(fields)}")

    def _add(self, kind: str) -> None:
        specs = [self._plan.after.kind(kind)[name] for name in self._of(kind, "added")]
        columns = _Columns(kind)
        rows = [TABLES[kind](**columns.of(spec)) for spec in specs]
        created = TABLES[kind]._default_manager.bulk_create(rows, batch_size=BATCH)
        self._note(created, ADDITION, "added")
        if kind == "chains":
            self._set_members(created)

    def _set_savings(self) -> None:
        if self._of("savings", "changed"):
            (spec,) = self._plan.after.savings.values()
            row, _ = Savings.objects.update_or_create(
                pk=Savings.ONLY, defaults=msgspec.structs.asdict(spec)
            )
            self._note([row], CHANGE, "changed baseline")

    def _change_chains(self) -> None:
        changes = self._of("chains", "changed")
        rows = _rows("chains", changes)
        # Two chains may swap owners, and at no moment may both stand in for one.
        FallbackChain.objects.filter(name__in=list(rows)).update(enabled=False)
        columns = _Columns("chains")
        for name, row in rows.items():
            for column, value in columns.of(self._plan.after.chains[name]).items():
                setattr(row, column, value)
            row.save()
            fields = ", ".join(field.field for field in changes[name].fields)
            self._note([row], CHANGE, f"changed {fields}")
        self._set_members(rows.values())

    def _set_members(self, chains: Iterable[models.Model]) -> None:
        rows = {str(chain): chain for chain in chains}
        ChainEntry.objects.filter(chain__in=list(rows.values())).delete()
        ids = dict(Model.objects.values_list("name", "pk"))
        ChainEntry.objects.bulk_create(
            ChainEntry(chain_id=row.pk, model_id=ids[member], position=position)
            for name, row in rows.items()
            for position, member in enumerate(self._plan.after.chains[name].models)
        )

    def _note(self, rows: Iterable[models.Model], flag: int, what: str) -> None:
        if self._user is None:
            return
        self._history += [
            LogEntry(
                user=self._user,
                content_type=ContentType.objects.get_for_model(row),
                object_id=str(row.pk),
                object_repr=str(row)[:200],
                action_flag=flag,
                change_message=f"Policy file: {what}.",
            )
            for row in rows
        ]


class _Columns:
    """Turns values of one kind into columns, names of others into their ids."""

    def __init__(self, kind: str) -> None:
        self._models = _ids(Model) if kind in ("offerings", "chains", "prices") else {}
        self._endpoints = _ids(Endpoint) if kind == "offerings" else {}
        self._tenants = _ids(Tenant) if kind == "keys" else {}
        self._origin = {"origin": Origin.FILE} if issubclass(TABLES[kind], _TRACKED) else {}

    def of(self, spec: Spec) -> dict[str, Any]:
        values = {name: _stored(value) for name, value in msgspec.structs.asdict(spec).items()}
        if isinstance(spec, ChainSpec):
            del values["models"], values["for_model"]
            values["for_model_id"] = self._models.get(spec.for_model)
            values["for_task"] = spec.for_task or ""
        elif isinstance(spec, OfferingSpec):
            del values["model"], values["endpoint"]
            values["model_id"] = self._models[spec.model]
            values["endpoint_id"] = self._endpoints[spec.endpoint]
        elif isinstance(spec, KeySpec):
            del values["tenant"]
            values["tenant_id"] = self._tenants[spec.tenant]
        elif isinstance(spec, PriceSpec):
            del values["model"]
            values["model_id"] = self._models[spec.model]
        return values | self._origin


_TRACKED = (Model, Endpoint, Offering)


def _ids(table: type[models.Model]) -> dict[str, int]:
    return dict(table._default_manager.values_list("name", "pk"))


def _rows(kind: str, names: Iterable[str]) -> dict[str, models.Model]:
    """Return the stored objects with these keys."""
    wanted = set(names)
    if not wanted:
        return {}
    found = TABLES[kind]._default_manager.all()
    if kind in RELATED:
        found = found.select_related(*RELATED[kind])
    return {str(row): row for row in found if str(row) in wanted}


def _save(row: models.Model, fields: list[str]) -> None:
    if isinstance(row, _TRACKED):
        row.save(by=Origin.FILE, update_fields=fields)
    else:
        row.save(update_fields=fields)


def _stored(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

"""The policy as a YAML file: exported, checked and applied; docs/policy.md has its fields."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import yaml
from django.db import transaction

from routing.engine.catalog import OfferingSpec, PolicyDocument
from routing.policy.export import document_from_orm, lock_policy, policy_version
from routing.policy.parsing import Parsed
from routing.policy.planning import Plan
from routing.policy.reading import Reading, Unreadable
from routing.policy.report import Finding, Report
from routing.policy.rules import Problem
from routing.policy.store import Store
from routing.policy.tables import FIELDS, KINDS, SINGLE, Spec, moment, objects

WIDTH = 120


def export_policy() -> str:
    """Return the stored policy as a file; applying it changes nothing. Defaults are left out."""
    document = document_from_orm()
    return f"# Policy version {document.version}. Fields: docs/policy.md\n{to_yaml(document)}"


def check_policy(text: str) -> Report:
    """Return what applying the text would change, and everything that is wrong with it."""
    return _Checked(text, document_from_orm()).report


def apply_policy(text: str, *, actor: str) -> Report:
    """Make the stored policy what the text says, in one transaction, or nothing if it has errors.

    `actor` is who does it; where that is a user's name, the admin's history tells of it.
    """
    with transaction.atomic():
        lock_policy()
        checked = _Checked(text, document_from_orm())
        if checked.plan is None or not checked.report.ok:
            return checked.report
        if checked.report.changes:
            Store(checked.plan, actor).write()
        return msgspec.structs.replace(checked.report, applied=True, version=policy_version())


class _Checked:
    """A text held against a stored policy; `plan` is None where the text is no YAML of ours."""

    def __init__(self, text: str, current: PolicyDocument) -> None:
        self.plan: Plan | None = None
        try:
            reading = Reading(text)
        except Unreadable as exc:
            error = Finding("", exc.problem.message, exc.line)
            self.report = Report(errors=(error,), version=current.version)
            return
        parsed = Parsed(reading.data)
        self.plan = Plan(parsed, current)
        errors = _located([*reading.repeated, *self.plan.errors], reading.lines)
        self.report = Report(
            # Of a broken file, only what is wrong is worth telling.
            changes=() if errors else self.plan.changes,
            errors=errors,
            warnings=_located(self.plan.warnings, reading.lines),
            version=current.version,
        )


def _located(problems: list[Problem], lines: dict[str, int]) -> tuple[Finding, ...]:
    found = [Finding(p.path, p.message, _line(p.path, lines)) for p in problems]
    return tuple(sorted(found, key=lambda finding: (finding.line or 0, finding.path)))


def _line(path: str, lines: dict[str, int]) -> int | None:
    """Return the line of a path, or of the object that it should be in."""
    while path:
        if path in lines:
            return lines[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return None


def to_yaml(document: PolicyDocument) -> str:
    """Return a document as YAML that reads back as the same document."""
    sections: dict[str, Any] = {}
    for kind in KINDS:
        told = [_told(spec) for spec in objects(document, kind)]
        if any(told):
            sections[kind] = told[0] if kind in SINGLE else told
    return (
        yaml.dump(sections, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
        if sections
        else "{}\n"
    )


def _told(spec: Spec) -> dict[str, Any]:
    told = {
        field.name: getattr(spec, field.name)
        for field in FIELDS[type(spec)].values()
        if field.required or getattr(spec, field.name) != field.default
    }
    return _Line(told) if isinstance(spec, OfferingSpec) else told


class _Line(dict[str, Any]):
    """A mapping written on one line."""


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes prices exactly, short lists and offerings on one line."""


def _price(dumper: Any, value: Decimal) -> Any:
    text = format(value.normalize(), "f")
    return dumper.represent_scalar(f"tag:yaml.org,2002:{'float' if '.' in text else 'int'}", text)


_Dumper.add_representer(Decimal, _price)
_Dumper.add_representer(
    datetime,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:timestamp", moment(value)),
)
_Dumper.add_representer(
    tuple,
    lambda dumper, value: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", value, flow_style=True
    ),
)
_Dumper.add_representer(
    _Line,
    lambda dumper, value: dumper.represent_mapping(
        "tag:yaml.org,2002:map", value.items(), flow_style=True
    ),
)

"""What checking or applying a policy file came to."""

from collections import Counter
from typing import Any, Literal

import msgspec

Action = Literal["added", "changed", "removed"]
ACTIONS: tuple[Action, ...] = ("added", "changed", "removed")


class FieldChange(msgspec.Struct, frozen=True):
    """One field of an object that is there already."""

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.old)} -> {_shown(self.new)}"


class Change(msgspec.Struct, frozen=True):
    """What happens to one object; `fields` only where it is changed."""

    action: Action
    kind: str  # as the file's sections: "models", "endpoints", …
    name: str
    fields: tuple[FieldChange, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """An error or a warning: where in the file, e.g. `models[3].quality_tier`, and what."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.path}: {self.message}" if self.path else f"{line}{self.message}"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """With errors nothing is applied. `version` is the policy's after what was done."""

    changes: tuple[Change, ...] = ()
    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    version: int = 0
    applied: bool = False

    @property
    def ok(self) -> bool:
        return not self.errors

    def text(self) -> str:
        """Return the report for people: one line each, a sum at the end, no line break after it."""
        lines = [f"error   {error}" for error in self.errors]
        lines += [f"warning {warning}" for warning in self.warnings]
        for change in self.changes:
            lines.append(f"{change.action:7} {change.kind} {change.name}")
            lines += [
                f"        {f.field}: {_shown(f.old)} -> {_shown(f.new)}" for f in change.fields
            ]
        return "\n".join([*lines, self._sum()])

    def _sum(self) -> str:
        if self.errors:
            count = len(self.errors)
            return f"{count} error{'s' * (count > 1)}; nothing was changed."
        if not self.changes:
            return f"Nothing to change; the policy is at version {self.version}."
        counts = Counter(change.action for change in self.changes)
        told = ", ".join(f"{counts[action]} {action}" for action in ACTIONS if counts[action])
        done = f"applied as version {self.version}" if self.applied else "nothing is applied yet"
        return f"{told}; {done}."


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"

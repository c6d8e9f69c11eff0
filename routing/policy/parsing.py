"""Plain data to the values of a policy, with every problem at once and where it is."""

import difflib
import re
import types
import typing
from collections.abc import Iterable
from datetime import UTC
from typing import Any

import msgspec

from routing.engine.catalog import EndpointSpec, PriceSpec
from routing.policy.rules import FIELD_RULES, Problem, spec_problems
from routing.policy.tables import FIELDS, KINDS, SINGLE, Spec, key

PRUNE = "prune"

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?$", re.DOTALL)
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a price",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "datetime": "a date and time",
    "null": "nothing",
}


class Item(typing.NamedTuple):
    """One object of the file and where it stands, e.g. `models[3]`."""

    path: str
    spec: Spec

    @property
    def key(self) -> str:
        return key(self.spec)


class Parsed:
    """What a file says: objects by kind, `prune`, and what is wrong with them."""

    def __init__(self, data: Any) -> None:
        self.problems: list[Problem] = []
        self.prune = False
        # Only the kinds that the file has: pruning stays within them.
        self.items: dict[str, list[Item]] = {}
        # Names of objects with problems, so that what refers to them is not called dangling.
        self.broken: dict[str, set[str]] = {kind: set() for kind in KINDS}
        if data is None:
            return
        if not isinstance(data, dict):
            self._add("", f"Write a mapping with {', '.join(KINDS)}.")
            return
        for name, value in data.items():
            self._section(name, value)

    def _section(self, name: str, value: Any) -> None:
        if name == PRUNE:
            if isinstance(value, bool):
                self.prune = value
            else:
                self._add(PRUNE, "Write true or false.")
        elif name == "version":
            self._add(name, "Versions are counted, not given; take it out.")
        elif name not in KINDS:
            self._add(name, f"Unknown field{nearest(name, [*KINDS, PRUNE])}")
        elif name in SINGLE:
            one = self._object(name, name, value)
            self.items[name] = [one] if one is not None else []
        elif not isinstance(value, list):
            self._add(name, "Write a list; `[]` for none.")
        else:
            found = [self._object(f"{name}[{i}]", name, item) for i, item in enumerate(value)]
            self.items[name] = [item for item in found if item is not None]

    def _object(self, path: str, kind: str, value: Any) -> Item | None:
        if not isinstance(value, dict):
            self._add(path, "Write a mapping of fields.")
            return None
        before = len(self.problems)
        fields = FIELDS[KINDS[kind]]
        for name in value.keys() - fields.keys():
            self._add(f"{path}.{name}", f"Unknown field{nearest(name, fields)}")
        for name, field in fields.items():
            if field.required and name not in value:
                self._add(f"{path}.{name}", "This field is required.")
        given = {
            name: self._field(f"{path}.{name}", KINDS[kind], fields[name], value[name])
            for name in value.keys() & fields.keys()
        }
        if len(self.problems) > before:
            self.broken[kind].add(str(value.get("name")))
            return None
        spec = _normal(KINDS[kind](**given))
        for problem in spec_problems(spec):
            self._add(f"{path}.{problem.path}", problem.message)
        return Item(path, spec)

    def _field(self, path: str, spec: type[Spec], field: Any, value: Any) -> Any:
        try:
            converted = msgspec.convert(value, field.type)
        except msgspec.ValidationError as exc:
            self._add(*_explained(path, str(exc), field.type))
            return None
        rule = FIELD_RULES.get((spec, field.name))
        if rule is not None:
            try:
                rule(converted)
            except ValueError as exc:
                self._add(path, str(exc))
        return converted

    def _add(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))


def _normal(spec: Spec) -> Spec:
    """Return the value as it is stored."""
    if isinstance(spec, EndpointSpec):
        return msgspec.structs.replace(spec, base_url=spec.base_url.rstrip("/"))
    if isinstance(spec, PriceSpec):
        return msgspec.structs.replace(spec, valid_from=spec.valid_from.astimezone(UTC))
    return spec


def _explained(path: str, error: str, wanted: Any) -> tuple[str, str]:
    """Return the exact path and msgspec's error in the words of a policy file."""
    found = _AT.match(error)
    what, where = (found["what"], found["where"] or "") if found else (error, "")
    if what.startswith("Invalid enum value"):
        value = what.removeprefix("Invalid enum value ").strip("'")
        allowed = _literals(wanted)
        return path + where, (
            f"Unknown value {value}{nearest(value, allowed)} It is one of {', '.join(allowed)}."
        )
    what = what.replace("RFC3339 encoded datetime", "date and time; write 2026-01-31T00:00:00Z")
    for word, plain in _WORDS.items():
        what = re.sub(rf"`{word}( \| null)?`", plain, what)
    hint = "; put it in quotes" if "Expected text, got" in what and "null" not in what else ""
    return path + where, f"{what}{hint}."


def _literals(wanted: Any) -> list[str]:
    if typing.get_origin(wanted) is typing.Literal:
        return list(typing.get_args(wanted))
    parts = typing.get_args(wanted) if not isinstance(wanted, types.NoneType) else ()
    return [value for part in parts for value in _literals(part)]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return how to end a sentence about an unknown name: with the known one most like it."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else "."

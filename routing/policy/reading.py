"""YAML to plain data with line numbers; refuses what could surprise: aliases, tags, repeated keys.

Built from the parser's events rather than with `safe_load`: that would expand aliases, keep the
last of two equal keys, round prices through binary fractions and forget the lines.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

from routing.policy.rules import Problem

LARGEST_BYTES = 8 * 1024 * 1024
DEEPEST = 10
MONEY_SUFFIX = "_usd"

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(Exception):
    """Raised when a text is no YAML of ours; `problem` says where and why."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem("", message)
        self.line = line


class Reading:
    """The data of a policy file, and on which line each path of it begins."""

    def __init__(self, text: str) -> None:
        """Read the text; raises Unreadable."""
        if len(text.encode(errors="surrogatepass")) > LARGEST_BYTES:
            raise Unreadable(f"The file is larger than {LARGEST_BYTES // 2**20} MiB; split it.")
        self.lines: dict[str, int] = {}
        self.repeated: list[Problem] = []
        try:
            self._loader = Loader(text)
            self.data = self._document()
        except yaml.MarkedYAMLError as exc:
            line = exc.problem_mark.line + 1 if exc.problem_mark else None
            raise Unreadable(f"This is not YAML: {exc.problem or exc}.", line) from exc
        except (yaml.YAMLError, UnicodeError) as exc:
            raise Unreadable("This is not YAML: it holds characters that YAML excludes.") from exc

    def _document(self) -> Any:
        self._next(yaml.StreamStartEvent)
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        self._next(yaml.DocumentStartEvent)
        data = self._value("", depth=0)
        self._next(yaml.DocumentEndEvent)
        extra = self._loader.get_event()
        if not isinstance(extra, yaml.StreamEndEvent):
            raise Unreadable("A policy file is one document; take the second out.", _line(extra))
        return data

    def _next(self, kind: type[yaml.Event]) -> None:
        event = self._loader.get_event()
        assert isinstance(event, kind), event  # noqa: S101 - the parser's own order

    def _value(self, path: str, depth: int) -> Any:
        event = self._loader.get_event()
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            raise Unreadable("Aliases (*name) are not accepted; write it out.", _line(event))
        if event.tag is not None:
            raise Unreadable(f"Tags ({event.tag}) are not accepted.", _line(event))
        if depth > DEEPEST:
            raise Unreadable("This is nested too deep to be a policy.", _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._scalar(path, event)

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            event = self._loader.get_event()
            if not isinstance(event, yaml.ScalarEvent):
                raise Unreadable("A field's name is plain text.", _line(event))
            name = event.value
            here = f"{path}.{name}" if path else name
            self.lines.setdefault(here, _line(event))
            value = self._value(here, depth + 1)
            if name in found:
                self.repeated.append(Problem(here, f"{name} is given twice; keep one."))
            found.setdefault(name, value)
        self._loader.get_event()
        return found

    def _sequence(self, path: str, depth: int) -> list[Any]:
        found: list[Any] = []
        while not self._loader.check_event(yaml.SequenceEndEvent):
            found.append(self._value(f"{path}[{len(found)}]", depth + 1))
        self._loader.get_event()
        return found

    def _scalar(self, path: str, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        if not event.implicit[0]:
            return text
        tag = self._loader.resolve(yaml.ScalarNode, text, event.implicit)
        if path.endswith(MONEY_SUFFIX) and tag.rpartition(":")[2] in ("int", "float"):
            return _exactly(text)
        return _constructed(tag.rpartition(":")[2], text)


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 1


def _exactly(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _constructed(kind: str, text: str) -> Any:
    """Return null, booleans and numbers as such; whatever else YAML knows (dates) stays text."""
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    try:
        if kind == "int":
            return int(text.replace("_", ""), 0 if text.lstrip("+-")[:2] in ("0x", "0b") else 10)
        return float(text) if kind == "float" else text
    except ValueError:
        return text

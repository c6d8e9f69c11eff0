"""Keys by reference, `env:NAME` or `file:/absolute/path`: never stored, never logged."""

import os
from pathlib import Path

LONGEST_KEY_BYTES = 16 * 1024


class SecretError(ValueError):
    """Raised when a reference leads to no usable key; its text never holds the key."""


def resolve(ref: str) -> str:
    """Return the key that `ref` leads to, without surrounding blanks; "" for an empty reference."""
    if not ref:
        return ""
    kind, _, where = ref.partition(":")
    if kind == "env":
        return _usable(os.environ.get(where, ""), f"The environment variable {where}")
    if kind == "file" and where.startswith("/"):
        return _usable(_read(Path(where)), f"The file {where}")
    raise SecretError("A key reference is env:NAME or file:/absolute/path.")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_KEY_BYTES + 1).decode()
    except OSError as exc:
        raise SecretError(f"The key file {path} cannot be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise SecretError(f"The key file {path} holds no text.") from exc


def _usable(text: str, source: str) -> str:
    key = text.strip()
    if not key:
        raise SecretError(f"{source}, which should hold a key, is unset or empty.")
    # A line break inside a header would let a key smuggle in further headers.
    if len(key) > LONGEST_KEY_BYTES or not key.isascii() or not key.isprintable():
        raise SecretError(f"{source} does not hold one line of printable ASCII.")
    return key

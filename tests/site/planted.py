"""Where a secret that was planted could have been written: looked for everywhere at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import psycopg
import redis
from psycopg import sql

from orchestra_site.home import Home


class Kept:
    """Everything that one installation keeps, read once; `where` looks a text up in it."""

    def __init__(self, home: Home, exported: str) -> None:
        self.tables = dict(_tables(home.database_url))
        self.redis = dict(_keys(home.redis_url))
        self.files = {
            str(path.relative_to(home.root)): path.read_bytes()
            for path in sorted(home.root.rglob("*"))
            if path.is_file() and not path.is_relative_to(home.pgdata)
        }
        self.exported = exported

    def where(self, text: str) -> list[str]:
        """Return the tables, keys and files that hold `text`, plainly or in hexadecimal."""
        forms = (text, text.encode().hex())
        found = [name for name, rows in self.tables.items() if any(f in rows for f in forms)]
        for name, content in (self.redis | self.files).items():
            if any(form.encode() in content for form in forms):
                found.append(name)
        return found + ["the exported policy"] * (text in self.exported)


def _tables(url: str) -> Iterator[tuple[str, str]]:
    """Yield every table, with all columns of all its rows as text."""
    with psycopg.connect(url, autocommit=True) as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
        for (name,) in names:
            query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(name))
            yield name, "\n".join(row[0] for row in connection.execute(query))


def _keys(url: str) -> Iterator[tuple[str, bytes]]:
    """Yield every key of Redis, with its name and all that is under it."""
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(count=1000):
            yield f"Redis {key.decode()}", key + b"\n" + b"\n".join(_flat(_value(client, key)))


def _value(client: Any, key: bytes) -> Any:
    kind = client.type(key).decode()
    read = {
        "string": client.get,
        "hash": client.hgetall,
        "set": client.smembers,
        "stream": client.xrange,
        "list": lambda name: client.lrange(name, 0, -1),
        "zset": lambda name: client.zrange(name, 0, -1),
    }
    return read[kind](key)


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for key, under in value.items():
            yield from _flat(key)
            yield from _flat(under)
    elif value is not None:
        for one in cast("list[Any]", value):
            yield from _flat(one)


def in_flight(kept: Kept) -> list[Path]:
    """Return the files of what calls under way may cost."""
    return [Path(name) for name in kept.files if name.endswith(".inflight")]

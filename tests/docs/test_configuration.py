"""docs/configuration.md lists every variable that is read, and none that is not."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestra_site import environ, home
from tests.docs.markdown import ROOT, document

CONFIGURATION = document("docs/configuration.md")
VARIABLE = re.compile(r"`([A-Z][A-Z0-9_]+)`")


class Noting(Mapping[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _listed(section: str) -> set[str]:
    """Return the variables in the first cells of the tables below a heading."""
    start = CONFIGURATION.text.index(f"## {section}\n")
    end = CONFIGURATION.text.find("\n#", start)
    cells = re.findall(r"^\|([^|]+)\|", CONFIGURATION.text[start:end], re.MULTILINE)
    return {name for cell in cells for name in VARIABLE.findall(cell)}


def test_the_table_of_the_service_is_what_the_service_reads() -> None:
    variables = Noting()
    environ.read(variables)
    assert _listed("The service") == variables.asked


def test_defaults_in_the_table_are_the_defaults() -> None:
    for name, default in {
        "API_HOST": environ.DEFAULT_API_HOST,
        "API_PORT": environ.DEFAULT_API_PORT,
        "OLLAMA_URL": environ.DEFAULT_OLLAMA_URL,
        "RETENTION_DAYS": environ.DEFAULT_RETENTION_DAYS,
        "SUMS_RETENTION_DAYS": environ.DEFAULT_SUMS_RETENTION_DAYS,
        "BUDGETS_RETENTION_DAYS": environ.DEFAULT_BUDGETS_RETENTION_DAYS,
    }.items():
        assert f"| `{name}` | `{default}` |" in CONFIGURATION.text


def test_every_other_variable_occurs_in_the_code() -> None:
    listed = set(re.findall(r"^\|.*?`([A-Z][A-Z_]+)`.*?\|", CONFIGURATION.text, re.MULTILINE))
    code = _code()
    assert {name for name in listed if not re.search(rf"\b{name}\b", code)} == set()


def test_the_layout_below_the_home_is_described() -> None:
    where = home.Home(Path("/home"))
    directories = {p.name for p in (where.pgdata, where.redis, where.run, where.logs, where.spool)}
    assert {name for name in directories if not list(CONFIGURATION.rows(f"{name}/"))} == set()


def _code() -> str:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "orchestra_site", "cli", "scripts", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return "\n".join(path.read_text() for path in paths if path.is_file())

"""The script starts fast because of what it does not import, from wherever it is called."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, SCRIPT
from tests.cli.service import Service
from tests.environment import outside

LIST_MODULES = (
    "import sys; sys.path.insert(0, sys.argv[1]); from cli.main import main; code = main({!r});"
    "sys.stderr.write(' '.join(sys.modules)); sys.exit(code)"
)


def modules_of(*arguments: str, url: str = "http://127.0.0.1:1") -> set[str]:
    """Return what is imported by the end of a command, in the script's own kind of interpreter."""
    code = LIST_MODULES.format(list(arguments))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)],
        capture_output=True,
        text=True,
        env=outside() | {"ORCHESTRA_URL": url},
        timeout=30,
        check=True,
    )
    return set(done.stderr.split())


def test_only_the_standard_library_is_imported(service: Service) -> None:
    imported = {name.partition(".")[0] for name in modules_of("status", url=service.url)}
    assert imported <= sys.stdlib_module_names | {"__main__", "cli"}
    assert "cli" in imported


def test_help_needs_no_network_modules() -> None:
    assert not modules_of("help", "--all") & {"http.client", "ssl", "tomllib"}


def test_slow_modules_are_not_imported(service: Service) -> None:
    slow = {"dataclasses", "inspect", "pathlib", "shutil", "importlib.metadata", "tomllib"}
    assert not modules_of("status", url=service.url) & slow


def test_it_runs_through_links_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "first").symlink_to(SCRIPT)
    (tmp_path / "ai-orchestra").symlink_to("first")
    done = subprocess.run(
        ["ai-orchestra", "--version"],
        cwd="/",
        env=outside() | {"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "ai-orchestra 1.0.0\n"


@pytest.mark.parametrize("present", [True, False])
def test_the_checkouts_python_is_preferred(tmp_path: Path, present: bool) -> None:
    """A copy of the checkout's command line, with and without a .venv."""
    (tmp_path / "cli").mkdir()
    script = tmp_path / "cli" / "ai-orchestra"
    script.write_bytes(SCRIPT.read_bytes())
    script.chmod(0o755)
    (tmp_path / "cli" / "__main__.py").write_text("import sys; print(sys.executable)")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    if present:
        (tmp_path / ".venv" / "bin").mkdir(parents=True)
        (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    done = subprocess.run(
        [str(script)],
        env=outside() | {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    used = tmp_path / (".venv/bin/python" if present else "bin/python3")
    assert done.stdout.strip() == str(used)

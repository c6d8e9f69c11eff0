"""cli/install.sh links the script, can be repeated and undone, and leaves foreign files alone."""

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, SCRIPT, Result
from tests.environment import outside


def install(home: Path, *arguments: str, path: str = "") -> Result:
    done = subprocess.run(
        [str(ROOT / "cli" / "install.sh"), *arguments],
        cwd=home,
        env=outside() | {"HOME": str(home), "PATH": f"{path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def test_it_installs_once(tmp_path: Path) -> None:
    link = tmp_path / ".local/bin/ai-orchestra"
    first = install(tmp_path)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith(f"Installed {link} -> {SCRIPT}.\n{link.parent} is not on the PATH.")
    again = install(tmp_path, path=str(link.parent))
    assert again.out == f"Already installed: {link} -> {SCRIPT}.\n"
    version = subprocess.run([str(link), "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("ai-orchestra ")


def test_it_uninstalls_and_says_when_there_is_nothing(tmp_path: Path) -> None:
    prefix = tmp_path / "some where"
    install(tmp_path, "--prefix", str(prefix))
    removed = install(tmp_path, f"--prefix={prefix}", "--uninstall")
    assert removed.out == f"Removed {prefix}/ai-orchestra.\n"
    assert list(prefix.iterdir()) == []
    again = install(tmp_path, "--prefix", str(prefix), "--uninstall")
    assert (again.code, again.out.startswith("Nothing to remove")) == (0, True)


def test_a_link_of_a_checkout_that_moved_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "ai-orchestra").symlink_to("/nowhere/cli/ai-orchestra")
    assert install(tmp_path, "--prefix", str(tmp_path)).code == 0
    assert (tmp_path / "ai-orchestra").resolve() == SCRIPT


@pytest.mark.parametrize("arguments", [(), ("--uninstall",)])
@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_what_is_foreign_stays(tmp_path: Path, kind: str, arguments: tuple[str, ...]) -> None:
    foreign = tmp_path / "ai-orchestra"
    if kind == "file":
        foreign.write_text("mine")
    elif kind == "link":
        foreign.symlink_to("/bin/true")
    else:
        foreign.mkdir()
    before = foreign.lstat()
    result = install(tmp_path, "--prefix", str(tmp_path), *arguments)
    assert (result.code, result.out) == (1, "")
    assert "stays as it is. Choose another --prefix DIR." in result.err
    assert foreign.lstat() == before


def test_a_prefix_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = install(tmp_path, "--prefix", str(tmp_path / "file" / "bin"))
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "cannot be made; choose another --prefix DIR" in result.err


@pytest.mark.parametrize("arguments", [("--prefx",), ("--prefix",), ("--prefix", "")])
def test_wrong_options_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = install(tmp_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert list(tmp_path.iterdir()) == []

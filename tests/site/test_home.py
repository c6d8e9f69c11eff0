"""What one installation keeps lies below ORCHESTRA_HOME."""

import os
import stat
import time
from pathlib import Path

import pytest

from orchestra_site import home as homes
from orchestra_site.errors import HomeError
from orchestra_site.home import Home, Running


def announce(home: Home, pid: int, started_at: float) -> Running:
    announced = Running(
        pid=pid,
        started_at=started_at,
        url="http://127.0.0.1:1",
        database_url="postgresql://d",
        redis_url="redis://r",
        ollama_url="http://o",
        simulated=False,
    )
    announced.write(home)
    return announced


def test_it_is_made_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")
    home.prepare()
    for directory in (home.run, home.logs, home.spool, home.redis):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_secret_key_is_made_once_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    key = home.secret_key()
    assert len(key) >= 50
    assert home.secret_key() == key
    assert stat.S_IMODE((tmp_path / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_home_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(
        HomeError, match=r"ORCHESTRA_HOME \(.*\) cannot be written: Not a directory"
    ):
        Home(file / "below").prepare()


def test_sockets_of_a_long_home_lie_in_a_short_directory(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 30))
    home.prepare()
    try:
        assert home.sockets != home.run
        assert len(str(home.postgres_sockets / ".s.PGSQL.5432")) <= homes.LONGEST_SOCKET_PATH
        assert stat.S_IMODE(home.sockets.stat().st_mode) == 0o700
    finally:
        home.sockets.rmdir()


def test_a_short_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / ("long" * 30))
    home.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(HomeError, match="belongs to somebody else"):
            home.prepare()
    finally:
        home.sockets.unlink()


def test_two_paths_too_long_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("temp" * 30)))
    with pytest.raises(HomeError, match="too long for a Unix socket"):
        Home(tmp_path / ("long" * 30)).prepare()


def test_a_running_process_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    started_at = homes.started_at(os.getpid())
    assert started_at is not None
    announced = announce(home, os.getpid(), started_at)
    assert homes.running(home) == announced
    assert stat.S_IMODE((home.run / "engines.json").stat().st_mode) == 0o600


def test_a_reused_pid_is_not_taken_for_the_run_that_died(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    announce(home, os.getpid(), time.time() - 86_400)
    assert homes.running(home) is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1}', "nonsense"])
def test_a_damaged_announcement_counts_as_none(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.prepare()
    (home.run / "engines.json").write_text(text)
    assert homes.running(home) is None

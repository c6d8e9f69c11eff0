"""Logs are bounded while those who write them hold them open."""

from pathlib import Path

from orchestra_site import logfiles


def test_a_large_log_moves_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "web-0.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old " * 100)
        logfiles.trim(tmp_path, largest_bytes=399)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "web-0.log.1").read_bytes() == b"old " * 100


def test_a_small_log_stays(tmp_path: Path) -> None:
    log = tmp_path / "web-0.log"
    log.write_bytes(b"line")
    logfiles.trim(tmp_path, largest_bytes=4)
    assert log.read_bytes() == b"line"
    assert list(tmp_path.iterdir()) == [log]

"""The spool: one writer, one reader, and what a killed or failing process leaves behind."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from telemetry.record import RequestRecord
from telemetry.recorder import Recorder
from telemetry.spool import SpoolFull, SpoolReader, SpoolUnavailable, SpoolWriter
from telemetry.spool import writer as writer_module
from telemetry.spool.layout import segments, spool_use
from tests.telemetry.records import a_record


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path, "web-0")
    yield recorder
    recorder.close()


def drain(reader: SpoolReader) -> list[RequestRecord]:
    records: list[RequestRecord] = []
    while True:
        batch = reader.read()
        reader.release(batch)
        if not batch.records:
            return records
        records += batch.records


def only_segment(spool_dir: Path) -> Path:
    (segment,) = segments(spool_dir / "web-0")
    return segment


def test_records_come_back_as_they_were(recorder: Recorder, tmp_path: Path) -> None:
    written = [a_record(n, error_message="naïve ☃") for n in range(100)]
    for record in written:
        recorder.record(record)
    assert drain(SpoolReader(tmp_path)) == written


def test_what_was_not_released_is_read_again(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record(a_record(1))
    assert len(SpoolReader(tmp_path).read().records) == 1
    reader = SpoolReader(tmp_path)
    batch = reader.read()
    assert len(batch.records) == 1
    assert reader.read().records == []
    reader.release(batch)
    assert SpoolReader(tmp_path).read().records == []


def test_a_finished_segment_goes_once_it_is_released(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record(a_record(1))
    recorder.close()
    reader = SpoolReader(tmp_path)
    batch = reader.read()
    assert segments(tmp_path / "web-0")
    reader.release(batch)
    left = os.listdir(tmp_path / "web-0")
    assert [name for name in left if not name.endswith(".inflight")] == ["writer.lock"]


def test_segments_rotate_by_size_and_by_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_size = SpoolWriter(tmp_path, "web-0", segment_bytes=1000)
    for _ in range(10):
        by_size.append(b"x" * 400)
    assert len(segments(by_size.directory)) == 5
    by_size.close()
    by_age = SpoolWriter(tmp_path, "web-1", segment_age_s=10.0)
    by_age.append(b"first")
    later = time.monotonic() + 11
    monkeypatch.setattr("telemetry.spool.writer.time.monotonic", lambda: later)
    by_age.append(b"second")
    assert len(segments(by_age.directory)) == 2
    by_age.close()


def test_a_busy_worker_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    for name, count in (("web-0", 500), ("web-1", 5)):
        recorder = Recorder(tmp_path, name)
        for number in range(count):
            recorder.record(a_record(number, worker=name))
        recorder.close()
    reader = SpoolReader(tmp_path, piece_bytes=2000)
    first_two = [reader.read(limit=5) for _ in range(2)]
    assert {r.worker for batch in first_two for r in batch.records} == {"web-0", "web-1"}


def test_looking_at_the_lock_does_not_keep_a_writer_out(tmp_path: Path) -> None:
    Recorder(tmp_path, "web-0").close()
    lock = os.open(tmp_path / "web-0" / "writer.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_SH)
    threading.Timer(0.05, os.close, [lock]).start()
    Recorder(tmp_path, "web-0").close()


def test_a_worker_that_comes_back_starts_a_new_segment(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path, "web-0")
        recorder.record(a_record(1))
        recorder.close()
    assert len(segments(tmp_path / "web-0")) == 2
    assert len(drain(SpoolReader(tmp_path))) == 2


def test_two_living_writers_of_one_name_are_refused(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(SpoolUnavailable, match="Another process writes to .*web-0"):
        Recorder(tmp_path, "web-0")


def test_a_full_spool_stops_admitting_before_it_refuses_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RESERVE_BYTES", 2000)
    monkeypatch.setattr(writer_module, "LOOK_EVERY_S", 0.0)
    recorder = Recorder(tmp_path, "web-0", max_bytes=2000)
    while recorder.admits():
        recorder.record(a_record(1))
    admitted = recorder.counters.recorded
    with pytest.raises(SpoolFull, match="is the conductor running"):
        record_many(recorder, 50)
    # The reserve took the requests that were under way.
    assert recorder.counters.recorded > admitted + 5
    assert recorder.counters.failed == recorder.counters.refused == 1
    recorder.close()
    assert len(drain(SpoolReader(tmp_path))) == recorder.counters.recorded
    emptied = Recorder(tmp_path, "web-0", max_bytes=2000)
    assert emptied.admits()
    emptied.record(a_record(1))
    emptied.close()


def test_other_workers_bytes_count_and_shipping_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "LOOK_EVERY_S", 0.0)
    other = Recorder(tmp_path, "web-1")
    record_many(other, 20)
    recorder = Recorder(tmp_path, "web-0", max_bytes=2000)
    assert not recorder.admits()
    other.close()
    drain(SpoolReader(tmp_path))
    assert recorder.admits()
    recorder.close()


def test_nothing_is_admitted_when_the_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RESERVE_BYTES", 1 << 60)
    recorder = Recorder(tmp_path, "web-0")
    assert not recorder.admits()
    recorder.close()


def test_nothing_is_admitted_once_the_disk_refused_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path, "web-0")
    assert recorder.admits()
    for refused in (OSError(errno.ENOSPC, "No space left on device"), 7):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Mock(side_effect=[refused]))
            with pytest.raises(SpoolUnavailable):
                recorder.record(a_record())
        assert not recorder.admits()
        # The next look finds room.
        monkeypatch.setattr(recorder._writer, "_look_at", 0.0)
        assert recorder.admits()
    recorder.record(a_record())
    recorder.close()


def record_many(recorder: Recorder, count: int) -> None:
    for number in range(count):
        recorder.record(a_record(number))


def test_a_record_too_large_or_not_unicode_is_cut_down_and_kept(
    recorder: Recorder, tmp_path: Path
) -> None:
    recorder.record(a_record(1, error_message="x" * 2_000_000))
    recorder.record(a_record(2, reason="lone \ud800 surrogate"))
    large, odd = drain(SpoolReader(tmp_path))
    assert large.error_message == "x" * 2000
    assert odd.reason == "lone ? surrogate"


def test_a_torn_frame_waits_while_its_writer_lives(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record(a_record(1))
    segment = only_segment(tmp_path)
    whole = segment.read_bytes()
    recorder.record(a_record(2))
    both = segment.read_bytes()
    os.truncate(segment, len(both) - 3)
    reader = SpoolReader(tmp_path)
    assert [r.request_id for r in drain(reader)] == ["req-00000001"]
    with segment.open("r+b") as file:
        file.seek(len(whole))
        file.write(both[len(whole) :])
    assert [r.request_id for r in drain(reader)] == ["req-00000002"]
    assert reader.corrupt_pieces == 0


def test_a_torn_frame_of_a_dead_writer_is_set_aside(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record(a_record(1))
    recorder.record(a_record(2))
    segment = only_segment(tmp_path)
    os.truncate(segment, segment.stat().st_size - 3)
    recorder.close()
    reader = SpoolReader(tmp_path)
    assert [r.request_id for r in drain(reader)] == ["req-00000001"]
    assert spool_use(tmp_path).corrupt == reader.corrupt_pieces == 1
    assert not segments(tmp_path / "web-0")


def test_damage_never_blocks_the_rest(recorder: Recorder, tmp_path: Path) -> None:
    for number in range(5):
        recorder.record(a_record(number))
    segment = only_segment(tmp_path)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    content[3:3] = b"junk"
    segment.write_bytes(content)
    recorder.record(a_record(9))
    reader = SpoolReader(tmp_path)
    numbers = [int(r.request_id[4:]) for r in drain(reader)]
    assert numbers == [1, 3, 4, 9]
    assert reader.corrupt_pieces == 2


def test_a_frame_longer_than_a_piece_is_read(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record(a_record(1, error_message="x" * 5000))
    recorder.record(a_record(2))
    assert len(drain(SpoolReader(tmp_path, piece_bytes=64))) == 2


def test_a_good_frame_that_is_no_record_is_set_aside(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "web-0")
    writer.append(b"\x93\x01\x02\x03")
    writer.close()
    reader = SpoolReader(tmp_path)
    assert drain(reader) == []
    assert reader.corrupt_pieces == 1


def test_a_closed_recorder_says_so(recorder: Recorder) -> None:
    recorder.close()
    with pytest.raises(SpoolUnavailable, match="was closed"):
        recorder.record(a_record(1))


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SpoolUnavailable, match=r"Cannot use .*spool/web-0"):
        Recorder(tmp_path / "spool", "web-0")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from telemetry.recorder import Recorder
from telemetry.spool import SpoolUnavailable
from tests.telemetry.records import a_record
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recorder = Recorder(Path(sys.argv[1]), "web-0")
recorder.record(a_record(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (450, resource.RLIM_INFINITY))
kept = 1
for number in (2, 3, 4):
    try:
        recorder.record(a_record(number))
        kept += 1
    except SpoolUnavailable as exc:
        reason = str(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
recorder.record(a_record(5))
print(kept + 1, reason)
"""


def test_a_disk_that_takes_half_a_frame_loses_nothing_of_the_others(tmp_path: Path) -> None:
    # A file size limit makes the kernel write part of a frame, as a full disk does.
    assert resource.RLIMIT_FSIZE
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=Path(__file__).parents[2],
    )
    assert told.returncode == 0, told.stderr
    kept, _, reason = told.stdout.partition(" ")
    assert "web-0" in reason
    reader = SpoolReader(tmp_path)
    records = drain(reader)
    assert len(records) == int(kept)
    assert records[-1].request_id == "req-00000005"
    assert reader.corrupt_pieces == 0

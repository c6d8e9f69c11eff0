"""What calls under way may cost outlives their process, and is forgotten when they are recorded."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from telemetry.record import Charge, RequestRecord
from telemetry.spool.errors import SpoolUnavailable
from telemetry.spool.inflight import (
    SLOT_BYTES,
    InFlight,
    abandoned,
    holder_of,
    left_behind,
    template,
)
from telemetry.spool.layout import identity
from tests.telemetry.records import a_record

LEASE, OTHER = b"l" * 16, b"o" * 16


def keep(file: InFlight, record: RequestRecord) -> int:
    """Keep a call that would leave `record`; its charges are all of its cost."""
    known = (record.id, record.created_at_us, record.prompt_tokens, record.cost_nusd)
    return file.open(template(record), *known)


def test_a_living_processes_file_is_left_alone_and_a_dead_ones_is_read(tmp_path: Path) -> None:
    alive = InFlight(tmp_path, "web-0-a")
    kept = a_record(cost_nusd=5, charges=(Charge(LEASE, 5),))
    kept.request_id = str(uuid.UUID(bytes=kept.id))
    done = keep(alive, a_record())
    keep(alive, kept)
    alive.close_slot(done)
    assert abandoned(tmp_path) == []
    alive.close()
    (path,) = abandoned(tmp_path)
    assert holder_of(path) == "web-0-a"
    assert left_behind(path) == [kept]


def test_several_calls_of_one_request_leave_one_record(tmp_path: Path) -> None:
    file = InFlight(tmp_path, "w")
    record = a_record(cost_nusd=5, charges=(Charge(LEASE, 5),))
    keep(file, record)
    keep(file, a_record(id=record.id, cost_nusd=7, charges=(Charge(LEASE, 7), Charge(OTHER, 7))))
    file.close()
    (left,) = left_behind(file.path)
    assert left.cost_nusd == 12
    assert left.charges == (Charge(LEASE, 12), Charge(OTHER, 7))


def test_slots_are_reused_and_more_are_made_when_they_run_out(tmp_path: Path) -> None:
    file = InFlight(tmp_path, "w")
    first = keep(file, a_record())
    file.close_slot(first)
    assert keep(file, a_record()) == first
    slots = {keep(file, a_record()) for _ in range(2000)}
    assert len(slots) == 2000
    file.close()
    assert len(left_behind(file.path)) == 2001


def test_long_texts_are_left_out_before_money_is(tmp_path: Path) -> None:
    file = InFlight(tmp_path, "w")
    keep(file, a_record(cost_nusd=5, reason="x" * SLOT_BYTES, charges=(Charge(LEASE, 5),)))
    with pytest.raises(SpoolUnavailable):
        keep(file, a_record(charges=tuple(Charge(bytes([i]) * 16, 5) for i in range(200))))
    file.close()
    (left,) = left_behind(file.path)
    assert (left.reason, left.charges) == ("", (Charge(LEASE, 5),))


def test_a_killed_process_leaves_what_it_had(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from tests.telemetry.test_inflight import *;"
        "file = InFlight(Path(sys.argv[1]), 'w'); [keep(file, a_record(i)) for i in range(7)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=root, timeout=30, check=False)
    (path,) = abandoned(tmp_path)
    assert len(left_behind(path)) == 7


def test_a_spool_keeps_its_name(tmp_path: Path) -> None:
    assert identity(tmp_path / "new") == identity(tmp_path / "new") != identity(tmp_path / "other")

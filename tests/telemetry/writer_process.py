"""A process that records as fast as it is told and says what it recorded, until it is killed.

`python -m tests.telemetry.writer_process SPOOL_DIR WORKER RATE`: writes the 16 bytes of each
record's id to standard output once the record is kept; the pipe outlives the process.
"""

import os
import sys
import time
from pathlib import Path

from telemetry.recorder import Recorder
from tests.telemetry.records import a_record


def main(spool_dir: str, worker: str, rate: str) -> None:
    recorder = Recorder(Path(spool_dir), worker)
    started, number = time.monotonic(), 0
    while True:
        while number < (time.monotonic() - started) * int(rate):
            record = a_record(number, worker=worker)
            recorder.record(record)
            os.write(1, record.id)
            number += 1
        time.sleep(0.002)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What a lane keeps its records with. No Django, no database, no network."""

import dataclasses
import uuid
from pathlib import Path

import msgspec

from telemetry.record import RequestRecord
from telemetry.spool.errors import SpoolError
from telemetry.spool.frame import MAX_PAYLOAD_BYTES
from telemetry.spool.inflight import InFlight
from telemetry.spool.writer import DEFAULT_MAX_BYTES, SpoolWriter

_encode = msgspec.msgpack.Encoder().encode
TEXT_LIMIT = 2000  # characters of any one text of a record that had to be cut down


@dataclasses.dataclass(slots=True)
class RecorderCounters:
    """Since this process started."""

    recorded: int = 0
    failed: int = 0  # records the spool refused: each was answered with an error instead
    refused: int = 0  # times `admits` said no


class Recorder:
    """Keeps finished requests for one worker. Not for several threads at once."""

    def __init__(self, spool_dir: Path, worker: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Raises SpoolUnavailable where the spool cannot be used."""
        self.counters = RecorderCounters()
        self._writer = SpoolWriter(spool_dir, worker, max_bytes=max_bytes)
        # Another process of this name may have left one: each has its own.
        self.holder = f"{worker}-{uuid.uuid4().hex}"
        self._in_flight = InFlight(self._writer.directory, self.holder)
        # Keeps what a call leaves if this process dies before `record`, and forgets it. Nothing
        # stands between: each paid call does both.
        self.open, self.close_slot = self._in_flight.open, self._in_flight.close_slot

    def record(self, record: RequestRecord) -> None:
        """Keep `record`; once this returns, a killed process does not lose it.

        Raises SpoolFull or SpoolUnavailable; then nothing was kept.
        """
        try:
            payload = _encode(record)
        except UnicodeEncodeError:
            payload = _encode(_presentable(record))
        if len(payload) > MAX_PAYLOAD_BYTES:
            payload = _encode(_presentable(record))
        try:
            self._writer.append(payload)
        except SpoolError:
            self.counters.failed += 1
            raise
        self.counters.recorded += 1

    def admits(self) -> bool:
        """Return whether new work may start; False means: answer 503 before doing any."""
        if self._writer.admits():
            return True
        self.counters.refused += 1
        return False

    def close(self) -> None:
        """Give up the worker's name in the spool."""
        self._in_flight.close()
        self._writer.close()


def _presentable(record: RequestRecord) -> RequestRecord:
    """Return `record` with texts that fit a frame and are valid UTF-8."""
    changes = {
        name: value.encode("utf-8", "replace").decode()[:TEXT_LIMIT]
        for name in record.__struct_fields__
        if isinstance(value := getattr(record, name), str)
    }
    return msgspec.structs.replace(record, **changes)

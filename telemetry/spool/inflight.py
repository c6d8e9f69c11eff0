"""What calls under way may cost, where it outlives the process: a file mapped into memory.

SPOOL_DIR/<worker>/<holder>.inflight   held (flock) by the process whose calls they are

The file has slots of one size. A slot holds what a call leaves if its process dies before it can
write a record: what differs from call to call, and then the rest of the record, encoded once for
all calls alike (`template`). It is filled first and marked last, with one byte. Marking and
clearing take no system call, and what is in the page cache survives `kill -9`.

The record in a slot has the id and the time of the record that the request will leave itself, so
that of the two PostgreSQL takes only one.
"""

import fcntl
import mmap
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from telemetry.record import Charge, RequestRecord, summed
from telemetry.spool.errors import SpoolUnavailable
from telemetry.spool.layout import is_locked

INFLIGHT_SUFFIX = ".inflight"
SLOT_BYTES = 2048
# Mark, length of the template; id, microseconds since the epoch, prompt tokens, nano-dollars.
HEAD = struct.Struct(">?xH16sqqq")
MOST_TEMPLATE_BYTES = SLOT_BYTES - HEAD.size
SLOTS_AT_ONCE = 512
MOST_SLOTS = 65536
_fill = HEAD.pack_into
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RequestRecord).decode


class InFlight:
    """The slots of one living process. Raises SpoolUnavailable where the disk has no room."""

    def __init__(self, directory: Path, holder: str) -> None:
        self.path = directory / f"{holder}{INFLIGHT_SUFFIX}"
        self._size = 0
        # A slot is known by where it begins.
        self._free: list[int] = []
        self._templates: dict[int, bytes] = {}  # by slot, the one that it holds
        self._map: mmap.mmap | bytearray = bytearray()  # empty until the first call, and at the end
        unlocked = self.path.with_suffix(".new")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(unlocked, flags, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Named once it is locked: nobody may take it for a dead process's.
            unlocked.rename(self.path)
        except OSError as exc:
            raise SpoolUnavailable(f"Cannot create {self.path}: {exc.strerror}.") from exc

    def open(
        self, template: bytes, id_: bytes, created_at_us: int, prompt_tokens: int, nusd: int
    ) -> int:
        """Keep a call in case this process dies; return the slot, to be closed.

        It may cost `nusd`, charged to each account that the template names.
        """
        free = self._free or self._grow()
        slot, data = free.pop(), self._map
        _fill(data, slot, False, len(template), id_, created_at_us, prompt_tokens, nusd)
        if self._templates[slot] is not template:
            at = slot + HEAD.size
            data[at : at + len(template)] = template
            self._templates[slot] = template
        data[slot] = 1
        return slot

    def close_slot(self, slot: int) -> None:
        """Forget what a slot holds: its request has a record, or cost nothing."""
        data = self._map
        if data:
            data[slot] = 0
            self._free.append(slot)

    def close(self) -> None:
        """Give the file up; whoever ships the spool removes it."""
        if isinstance(self._map, mmap.mmap):
            self._map.close()
        self._map = bytearray()
        self._free.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _grow(self) -> list[int]:
        """Make more slots; return those that are free."""
        before, size = self._size, self._size + SLOTS_AT_ONCE * SLOT_BYTES
        if self._file < 0 or size > MOST_SLOTS * SLOT_BYTES:
            raise SpoolUnavailable("Too many paid calls are under way in this process.")
        try:
            # Allocated, not only declared: writing to a hole of a full disk kills the process.
            os.posix_fallocate(self._file, 0, size)
            if isinstance(self._map, mmap.mmap):
                self._map.resize(size)
            else:
                self._map = mmap.mmap(self._file, size)
        except OSError as exc:
            raise SpoolUnavailable(f"Cannot extend {self.path}: {exc.strerror}.") from exc
        # The first ones last: a slot just used is in the processor's cache.
        new = range(size - SLOT_BYTES, before - SLOT_BYTES, -SLOT_BYTES)
        self._free = [*new, *self._free]
        self._templates |= dict.fromkeys(new, b"")
        self._size = size
        return self._free


def template(record: RequestRecord) -> bytes:
    """Return what calls leave that are like this one but for what `InFlight.open` is told.

    Raises SpoolUnavailable where a slot cannot hold it.
    """
    payload = _encode(record)
    if len(payload) > MOST_TEMPLATE_BYTES:
        payload = _encode(_bare(record))
    if len(payload) > MOST_TEMPLATE_BYTES:
        raise SpoolUnavailable("A request is counted by more budgets than can be kept track of.")
    return payload


def _bare(record: RequestRecord) -> RequestRecord:
    """Return the record without its texts, which are what can be long."""
    words = {
        name: ""
        for name in record.__struct_fields__
        if isinstance(getattr(record, name), str) and name not in ("kind", "request_id")
    }
    return msgspec.structs.replace(record, **words, attempts=())


def abandoned(directory: Path) -> list[Path]:
    """Return the files whose processes are gone, in one worker's directory."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    paths = [directory / name for name in sorted(names) if name.endswith(INFLIGHT_SUFFIX)]
    return [path for path in paths if not is_locked(path)]


def holder_of(path: Path) -> str:
    """Return whose file it is."""
    return path.name.removesuffix(INFLIGHT_SUFFIX)


def remove(path: Path) -> None:
    """Forget a dead process: what it left is stored."""
    path.unlink(missing_ok=True)


def left_behind(path: Path) -> list[RequestRecord]:
    """Return a record for each request that a dead process left under way, with all its charges."""
    found: dict[bytes, RequestRecord] = {}
    for record in _slots(path):
        first = found.setdefault(record.id, record)
        if first is not record:
            first.cost_nusd += record.cost_nusd
            first.charges = summed((*first.charges, *record.charges))
    return list(found.values())


def _slots(path: Path) -> Iterator[RequestRecord]:
    data = path.read_bytes()
    for at in range(0, len(data), SLOT_BYTES):
        marked, size, id_, created_at_us, prompt_tokens, nusd = HEAD.unpack_from(data, at)
        if marked:
            record = _decode(data[at + HEAD.size : at + HEAD.size + size])
            record.id, record.request_id = id_, str(uuid.UUID(bytes=id_))
            record.created_at_us, record.prompt_tokens = created_at_us, prompt_tokens
            record.cost_nusd = nusd
            record.charges = tuple([Charge(charge.leases, nusd) for charge in record.charges])
            yield record

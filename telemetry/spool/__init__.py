"""The spool: finished requests on local disk, until they are in PostgreSQL."""

from telemetry.spool.errors import SpoolError, SpoolFull, SpoolUnavailable
from telemetry.spool.reader import SpoolBatch, SpoolReader
from telemetry.spool.writer import SpoolWriter

__all__ = [
    "SpoolBatch",
    "SpoolError",
    "SpoolFull",
    "SpoolReader",
    "SpoolUnavailable",
    "SpoolWriter",
]

"""Brings records from the spool to PostgreSQL: at least once sent, exactly once counted."""

from telemetry.shipper.job import Shipper

__all__ = ["Shipper"]

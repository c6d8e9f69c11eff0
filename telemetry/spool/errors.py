"""What can go wrong when a record is kept.

SpoolError
├── SpoolFull
└── SpoolUnavailable
"""


class SpoolError(Exception):
    """Base of everything the spool raises; its text is one sentence for operators."""


class SpoolFull(SpoolError):
    """Raised when the spool is past its size limit and its reserve: nothing more is written."""


class SpoolUnavailable(SpoolError):
    """Raised when the disk refuses: no space, no permission, an I/O fault, a second writer."""

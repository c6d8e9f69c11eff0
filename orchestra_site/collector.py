"""The garbage collector of a process that lives long."""

import gc

# Batches of records and requests under way are thousands of small objects that come and go
# together, without circles. Looking among them after every 700, Python's default, is up to a fifth
# of the work.
THRESHOLD = 50_000


def calm() -> None:
    """Leave what is loaded by now alone for good, and look seldom at what comes after it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)

"""What commands that use the database have in common: who acts, and what its faults mean."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, OperationalError

from cli.errors import CliError, Unreachable


def actor() -> str:
    """Return who runs the command, for the admin's history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"


@contextmanager
def database_explained() -> Iterator[None]:
    """Turn the database's faults into what to do about them."""
    try:
        yield
    except OperationalError as fault:
        raise Unreachable(
            "The database does not answer: start the service with 'ai-orchestra up', "
            "or name the database with DATABASE_URL."
        ) from fault
    except DatabaseError as fault:
        raise CliError(
            "The database is not ready for this version: start the service once with "
            "'ai-orchestra up', or run 'manage.py migrate'."
        ) from fault

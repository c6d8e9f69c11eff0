"""Brings the database up to date before the workers start: migrations, catalogue, first admin.

A process of its own, so that the supervisor never imports Django. Prints one sentence and exits
with 1 when the database cannot be used.
"""

import argparse
import os
import secrets
import sys
import time
from pathlib import Path

import django
import psycopg
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

ADMIN_NAME = "admin"
# Two nodes may start at once on one database; any constant known to both will do.
ADVISORY_LOCK = 7_283_311


def main(argv: list[str]) -> int:
    options = _parse(argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestra_site.settings")
    django.setup()
    try:
        _connect(options.connect_limit_s)
        _prepare(options.ollama_url, simulated=options.simulated)
    except (DatabaseError, psycopg.Error) as exc:
        reason = " ".join(str(exc).split())
        print(f"The database cannot be used: {reason}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="orchestra_site.prepare")
    parser.add_argument("--ollama-url", required=True)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--connect-limit-s", type=float, default=0.0)
    return parser.parse_args(argv)


def _connect(limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return connection.ensure_connection()
        except OperationalError:
            # Started alongside the server, to import Django while that recovers.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _prepare(ollama_url: str, *, simulated: bool) -> None:
    from routing.models import Offering
    from routing.policy.discovery import discover_once
    from routing.policy.seed import seed

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)
    seed(ollama_url=ollama_url, simulated=simulated)
    if not Offering.objects.exists():
        # The very first start: without this the first second of requests would find no model.
        discover_once()
    ensure_admin()


def ensure_admin() -> None:
    """Create the first admin, with a random password kept 0600 in `admin_password`."""
    from django.conf import settings
    from django.contrib.auth.models import User

    if User.objects.filter(is_superuser=True).exists():
        return
    password = secrets.token_urlsafe(15)
    path = Path(settings.ORCHESTRA_HOME) / "admin_password"
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
    User.objects.create_superuser(ADMIN_NAME, password=password)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

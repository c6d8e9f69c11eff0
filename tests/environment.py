"""What the tests run in: an environment of their own, whatever the machine has set."""

import os
import tempfile
from pathlib import Path

from orchestra_site.home import Home

OURS = (
    "API_HOST", "API_PORT", "WEB_WORKERS", "OLLAMA_URL", "DATABASE_URL", "REDIS_URL", "SECRET_KEY",
    "ORCHESTRA_HOME", "ORCHESTRA_ALLOWED_HOSTS", "ORCHESTRA_URL", "ORCHESTRA_WORKER",
    "ORCHESTRA_LISTEN_FD", "ORCHESTRA_SIMULATED", "RETENTION_DAYS", "SUMS_RETENTION_DAYS",
    "BUDGETS_RETENTION_DAYS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NO_COLOR",
    "FORCE_COLOR",
)  # fmt: skip


def outside() -> dict[str, str]:
    """Return the environment as a newcomer has it: without any setting of ours."""
    return {name: value for name, value in os.environ.items() if name not in OURS}


def enter() -> Home:
    """Point every setting at a private home, before Django reads them; start nothing yet."""
    home = Home(Path(tempfile.mkdtemp(prefix="orchestra-test-")))
    for name in OURS:
        os.environ.pop(name, None)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "orchestra_site.settings",
        "ORCHESTRA_HOME": str(home.root),
        "DATABASE_URL": home.database_url,
        "REDIS_URL": home.redis_url,
        "SECRET_KEY": "for-the-tests-only-" + "0" * 32,
    }
    return home

"""What `up` prints once the service answers."""

import contextlib
from pathlib import Path

from orchestra_site.environ import DEFAULT_OLLAMA_URL
from orchestra_site.home import Home
from orchestra_site.ollama import Upstream


def text(
    url: str, home: Home, upstream: Upstream, *, simulate: bool, keys_required: bool = False
) -> str:
    """Return where everything is and how to sign in; `simulate`: the simulator was asked for."""
    lines = [
        "",
        "AI Model Orchestra is running.",
        "",
        f"  Dashboard  {url}/dashboard",
        f"  API        {url}/api/v1  (docs: {url}/api/docs)",
        f"  Admin      {url}/admin/",
    ]
    password = home.root / "admin_password"
    if password.exists():
        lines.append(f"             sign in as admin; the password is in {_short(password)}")
    if keys_required:
        lines.append(
            "  Keys       every caller needs one: ai-orchestra keys create NAME --tenant T"
        )
    lines += [
        f"  Models     {_models(upstream, simulate=simulate)}",
        f"  Logs       {_short(home.logs)}",
        "",
        "Ctrl-C stops everything.",
        "",
    ]
    return "\n".join(lines)


def _models(upstream: Upstream, *, simulate: bool) -> str:
    if upstream.simulator_port is None:
        return f"from Ollama at {upstream.url}"
    if simulate:
        return f"simulated at {upstream.url}, as asked"
    return f"simulated at {upstream.url}, because no Ollama answers at {DEFAULT_OLLAMA_URL}"


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)

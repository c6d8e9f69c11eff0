"""Where money is at stake: an upstream at C speed, a price, two tenants, budgets."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from benchmarks import servers
from tests.chaos.crowd import Question
from tests.chaos.house import House, house

# High enough to refuse nobody: what is checked is that they are kept to the nano-dollar.
LIMIT_USD = 100_000
# The first has hard budgets and is refused once PostgreSQL is away for long; the other one asks on.
HARD, SOFT = "careful", "easy"
SHARES = (HARD, SOFT, SOFT, SOFT)  # of the requests
BODY = {
    "taskType": "completion",
    "prompt": "Hello, world!",
    "requirements": {"maxTokens": 50},
}
KNOWN_AFTER_S = 2.0  # every worker knows the keys and holds its first leases


def _policy() -> dict[str, Any]:
    model = {
        "name": servers.MODEL,
        "capabilities": ["completion", "reasoning", "code", "analysis"],
        "quality_tier": "good",
        "speed": "fast",
        "ram_required_gb": 3.0,
        "context_length": 131072,
        "cost_per_1k_input_usd": 0.001,
        "cost_per_1k_output_usd": 0.002,
    }
    return {"models": [model], "tenants": [{"name": HARD}, {"name": SOFT}]}


def _budgets() -> dict[str, Any]:
    return {
        "budgets": [
            _budget("tenant", HARD),
            _budget("key", HARD),
            _budget("tenant", SOFT, hard=False, when_exhausted="warn"),
        ]
    }


def _budget(scope: str, subject: str, **more: Any) -> dict[str, Any]:
    name = f"{scope}-{subject}"
    told = {"name": name, "scope": scope, "subject": subject, "period": "total", **more}
    return {"limit_usd": LIMIT_USD, **told}


@contextlib.asynccontextmanager
async def spending(folder: Path, **settings: str) -> AsyncIterator[tuple[House, list[Question]]]:
    """Run the service with keys and budgets; yield it and what its callers ask."""
    web = folder / "web"
    web.mkdir()
    with (
        servers.nginx(web) as upstream,
        house(folder / "home", **{"OLLAMA_URL": upstream, **settings}) as home,
    ):
        tokens = await asyncio.to_thread(_open_accounts, home, folder / "policy.json")
        await home.wait_routable([{"taskType": "completion"}])
        await asyncio.sleep(KNOWN_AFTER_S)
        path, body = "/api/v1/ai/route-request", json.dumps(BODY)
        yield home, [Question(path, body, tokens[name]) for name in SHARES]


def _open_accounts(home: House, path: Path) -> dict[str, str]:
    home.apply(_policy(), path)
    tokens = {name: _token(home, name) for name in (HARD, SOFT)}
    # A budget of a key needs the key.
    home.apply(_budgets(), path)
    return tokens


def _token(home: House, name: str) -> str:
    said = home.manage("keys", "create", name, "--tenant", name)
    found = re.search(r"\bao_\w+", said)
    assert found is not None, said
    return found[0]

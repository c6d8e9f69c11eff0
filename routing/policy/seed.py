"""The usual Ollama models, the endpoint `ollama`, default chains and profiles; see `seed`.

Sizes are those of Ollama's library (default tags), shapes and context lengths those of the models'
configurations; memory, tier, speed and tasks follow from them by the rules of `sizing`.
"""

import ipaddress
from urllib.parse import urlsplit

import msgspec
from django.db import transaction

from routing.engine.catalog import DEFAULT_PROFILES, ModelSpec, TaskType
from routing.models import (
    ChainEntry,
    Endpoint,
    FallbackChain,
    Model,
    Origin,
    PolicyVersion,
    RoutingProfile,
)
from routing.policy.discovery import guess
from routing.policy.export import lock_policy
from routing.policy.metadata import Found
from routing.policy.sizing import Shape

ENDPOINT = "ollama"

_CHAT, _THINKING, _EMBEDDING = ("completion",), ("completion", "thinking"), ("embedding",)

# name, billions of parameters, GB on disk, (layers, KV heads, head dimension), context, abilities
_Row = tuple[str, float, float, tuple[int, int, int], int, tuple[str, ...]]
_LIBRARY: tuple[_Row, ...] = (
    ("llama3.2:1b", 1.24, 1.321, (16, 8, 64), 131_072, _CHAT),
    ("llama3.2:3b", 3.21, 2.019, (28, 8, 128), 131_072, _CHAT),
    ("llama3.1:8b", 8.03, 4.921, (32, 8, 128), 131_072, _CHAT),
    ("llama3.1:70b", 70.6, 42.52, (80, 8, 128), 131_072, _CHAT),
    ("llama3.3:70b", 70.6, 42.52, (80, 8, 128), 131_072, _CHAT),
    ("qwen2.5:0.5b", 0.49, 0.398, (24, 2, 64), 32_768, _CHAT),
    ("qwen2.5:7b", 7.62, 4.683, (28, 4, 128), 32_768, _CHAT),
    ("qwen2.5:14b", 14.8, 8.988, (48, 8, 128), 32_768, _CHAT),
    ("qwen2.5-coder:7b", 7.62, 4.683, (28, 4, 128), 32_768, _CHAT),
    ("qwen2.5-coder:32b", 32.8, 19.851, (64, 8, 128), 32_768, _CHAT),
    ("mistral:7b", 7.25, 4.373, (32, 8, 128), 32_768, _CHAT),
    ("mixtral:8x7b", 46.7, 26.443, (32, 8, 128), 32_768, _CHAT),
    ("gemma2:9b", 9.24, 5.443, (42, 8, 256), 8192, _CHAT),
    ("phi3:mini", 3.82, 2.176, (32, 32, 96), 131_072, _CHAT),
    ("phi4:14b", 14.7, 9.053, (40, 10, 128), 16_384, _CHAT),
    ("deepseek-r1:7b", 7.62, 4.683, (28, 4, 128), 131_072, _THINKING),
    ("deepseek-r1:14b", 14.8, 8.988, (48, 8, 128), 131_072, _THINKING),
    ("deepseek-r1:32b", 32.8, 19.851, (64, 8, 128), 131_072, _THINKING),
    ("codellama:7b", 6.74, 3.826, (32, 32, 128), 16_384, _CHAT),
    ("nomic-embed-text", 0.137, 0.274, (12, 12, 64), 2048, _EMBEDDING),
    ("mxbai-embed-large", 0.334, 0.67, (24, 16, 64), 512, _EMBEDDING),
    ("bge-m3", 0.567, 1.157, (24, 16, 64), 8192, _EMBEDDING),
)

# Models that are not there are skipped. No chain for embeddings: vectors of different models cannot
# be compared, so a stand-in would silently spoil whoever stores them.
_CHAINS: dict[TaskType, tuple[str, ...]] = {
    "completion": ("llama3.1:8b", "qwen2.5:7b", "mistral:7b", "llama3.2:3b", "llama3.2:1b"),
    "reasoning": ("deepseek-r1:14b", "deepseek-r1:7b", "llama3.1:8b", "llama3.2:3b"),
    "code": ("qwen2.5-coder:7b", "deepseek-r1:7b", "codellama:7b", "llama3.1:8b"),
    "analysis": ("llama3.1:8b", "qwen2.5:14b", "qwen2.5:7b", "gemma2:9b", "llama3.2:3b"),
}


def seed_models() -> tuple[ModelSpec, ...]:
    """Return the capability records of the usual models."""
    return tuple(guess(row[0], _found(row), local=True) for row in _LIBRARY)


def _found(row: _Row) -> Found:
    name, parameters_b, size_gb, (layers, kv_heads, head_dim), context, abilities = row
    return Found(
        name=name,
        weights_bytes=round(size_gb * 10**9),
        parameters_b=parameters_b,
        context_length=context,
        capabilities=abilities,
        shape=Shape(kv_heads=layers * kv_heads, head_dim=head_dim),
    )


def seed(*, ollama_url: str, simulated: bool) -> None:
    """Add what a new installation needs; idempotent, and two queries when there is nothing to do.

    What was seeded once is not seeded again, so deletions stay. The endpoint `ollama` follows
    `ollama_url` and `simulated` until somebody edits it. Offerings are discovery's business: a
    model that no endpoint offers is known, but never chosen.
    """
    done = PolicyVersion.objects.filter(pk=PolicyVersion.ONLY).values_list("seeded", flat=True)
    missing = _everything() - set(done.first() or ())
    url = ollama_url.rstrip("/")
    endpoint = Endpoint.objects.filter(name=ENDPOINT).first()
    if missing or (endpoint and _outdated(endpoint, url, simulated)):
        _seed(missing, url, simulated)


def _everything() -> set[str]:
    return {
        f"endpoint:{ENDPOINT}",
        *(f"model:{row[0]}" for row in _LIBRARY),
        *(f"chain:{task}" for task in _CHAINS),
        *(f"profile:{profile.priority}" for profile in DEFAULT_PROFILES),
    }


@transaction.atomic
def _seed(missing: set[str], url: str, simulated: bool) -> None:
    lock_policy()
    _seed_endpoint(f"endpoint:{ENDPOINT}" in missing, url, simulated)
    _seed_models(missing)
    _seed_chains(missing)
    _seed_profiles(missing)
    version = PolicyVersion.objects.get(pk=PolicyVersion.ONLY)
    version.seeded = sorted({*version.seeded, *missing})
    version.save(update_fields=["seeded"])


def _seed_endpoint(is_missing: bool, url: str, simulated: bool) -> None:
    endpoint = Endpoint.objects.filter(name=ENDPOINT).first()
    if endpoint is None and is_missing:
        endpoint = Endpoint(name=ENDPOINT, provider="ollama")
    if endpoint is not None and (endpoint._state.adding or _outdated(endpoint, url, simulated)):
        for field, value in _settings(url, simulated).items():
            if endpoint._state.adding or endpoint.machine_may_change(field):
                setattr(endpoint, field, value)
        endpoint.save(by=Origin.SEED)


def _settings(url: str, simulated: bool) -> dict[str, str | bool]:
    return {"base_url": url, "simulated": simulated, "host": "local" if _is_here(url) else ""}


def _outdated(endpoint: Endpoint, url: str, simulated: bool) -> bool:
    # A person's URL stays, and so does what was true of it.
    return endpoint.machine_may_change("base_url") and any(
        endpoint.machine_may_change(field) and getattr(endpoint, field) != value
        for field, value in _settings(url, simulated).items()
    )


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _seed_models(missing: set[str]) -> None:
    present = set(Model.objects.values_list("name", flat=True))
    for spec in seed_models():
        if f"model:{spec.name}" in missing and not {spec.name, f"{spec.name}:latest"} & present:
            Model(**msgspec.structs.asdict(spec)).save(by=Origin.SEED)


def _seed_chains(missing: set[str]) -> None:
    models = {model.name: model for model in Model.objects.all()}
    taken = set(FallbackChain.objects.exclude(for_task="").values_list("for_task", flat=True))
    for task, names in _CHAINS.items():
        members = [models[name] for name in names if name in models]
        able = [member for member in members if task in member.capabilities]
        if f"chain:{task}" not in missing or task in taken or not able:
            continue
        chain = FallbackChain.objects.create(name=f"default {task}", for_task=task)
        ChainEntry.objects.bulk_create(
            ChainEntry(chain=chain, model=member, position=position)
            for position, member in enumerate(able)
        )


def _seed_profiles(missing: set[str]) -> None:
    for profile in DEFAULT_PROFILES:
        if f"profile:{profile.priority}" in missing:
            values = msgspec.structs.asdict(profile)
            RoutingProfile.objects.get_or_create(priority=values.pop("priority"), defaults=values)

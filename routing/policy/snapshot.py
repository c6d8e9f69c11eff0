"""The policy in Redis: a snapshot for workers and the capability records for everybody else."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import redis

from routing.engine.catalog import ModelSpec, PolicyDocument
from telemetry.redis_names import CAPABILITY, POLICY_CHANNEL, POLICY_SNAPSHOT, POLICY_VERSION

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(PolicyDocument).decode

_SCAN_COUNT = 1000


class ModelCapability(msgspec.Struct, frozen=True, kw_only=True):
    """A capability record as the requirements have it (JSON, one key for each enabled model)."""

    model_name: str
    capabilities: tuple[str, ...]
    ram_required_gb: float
    speed: str
    # The dearer of input and output: what 1,000 tokens cost at most. null: not known.
    cost_per_1k_tokens: float | None
    quality_tier: str
    best_for: tuple[str, ...]


def capability(model: ModelSpec) -> ModelCapability:
    return ModelCapability(
        model_name=model.name,
        capabilities=model.capabilities,
        ram_required_gb=model.ram_required_gb,
        speed=model.speed,
        cost_per_1k_tokens=_dearest(model.cost_per_1k_input_usd, model.cost_per_1k_output_usd),
        quality_tier=model.quality_tier,
        best_for=model.best_for,
    )


def _dearest(input_usd: Decimal | None, output_usd: Decimal | None) -> float | None:
    if input_usd is None or output_usd is None:
        return None
    return float(max(input_usd, output_usd))


def write(client: redis.Redis, document: PolicyDocument) -> None:
    """Replace the snapshot and the capability records, then tell who listens.

    The version is written after the snapshot it names: who sees the number finds the document.
    """
    records = {
        CAPABILITY + model.name: msgspec.json.encode(capability(model))
        for model in document.models
        if model.enabled
    }
    pipeline = client.pipeline(transaction=False)
    pipeline.set(POLICY_SNAPSHOT, encode(document))
    for key, record in records.items():
        pipeline.set(key, record)
    for key in _capability_keys(client):
        if key not in records:
            pipeline.delete(key)
    pipeline.set(POLICY_VERSION, document.version)
    pipeline.publish(POLICY_CHANNEL, str(document.version))
    pipeline.execute()


def _capability_keys(client: redis.Redis) -> Iterator[str]:
    for key in client.scan_iter(match=CAPABILITY + "*", count=_SCAN_COUNT):
        yield key.decode(errors="replace")

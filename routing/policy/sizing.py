"""Guesses about a model from its published figures: memory, quality tier, speed, tasks. Pure."""

import math
import re
from typing import Any

import msgspec

from routing.engine.catalog import QualityTier, Speed, TaskType

GB = 10**9
KV_BYTES_PER_VALUE = 2  # f16
# Ollama loads this context where nothing is pinned (OLLAMA_CONTEXT_LENGTH).
DEFAULT_CONTEXT = 4096
LEAST_SURCHARGE_BYTES, MOST_SURCHARGE_BYTES = 3 * 2**28, 2 * 2**30  # 0.75 and 2 GiB
SURCHARGE_SHARE = 0.1
# Where the shape is unknown; an 8B model at 4,096 tokens has a KV cache of a tenth of its weights.
KV_SHARE = 0.2

_BILLIONS = re.compile(r"(?<![\d.a-z])(\d+(?:\.\d+)?)([bm])(?![a-z])", re.IGNORECASE)
_EXPERTS = re.compile(r"(\d+)x(\d+(?:\.\d+)?)b", re.IGNORECASE)
_CODE = re.compile(r"cod(e|er|ing)|devstral|starcoder|codestral", re.IGNORECASE)
_EMBEDDING = re.compile(r"embed|minilm|bge-|gte-|e5-", re.IGNORECASE)
_NOT_TEXT = re.compile(
    r"whisper|tts|dall-e|image|audio|realtime|transcri|moderation|rerank|sora|video|speech",
    re.IGNORECASE,
)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What the KV cache is computed from; `kv_heads` is the sum over all layers."""

    kv_heads: int
    head_dim: float  # the mean of key and value


def ram_required_gb(weights_bytes: int, shape: Shape | None, context: int) -> float:
    """Return the memory a loaded model needs, in decimal GB, rounded up to a tenth.

    Weights + KV cache + surcharge, with the cache 2 (key and value) x heads of all layers x head
    dimension x context x 2 bytes, and a surcharge for batches of 10 % of the weights, within
    Ollama's 0.75 to 2 GiB. Source: Ollama's own prediction; see docs/policy.md. A number of GB is
    larger than the same memory in GiB, so comparing with either errs on the safe side.
    """
    if shape is None:
        cache = weights_bytes * KV_SHARE
    else:
        cache = 2 * shape.kv_heads * shape.head_dim * context * KV_BYTES_PER_VALUE
    surcharge = min(
        max(weights_bytes * SURCHARGE_SHARE, LEAST_SURCHARGE_BYTES), MOST_SURCHARGE_BYTES
    )
    return math.ceil((weights_bytes + cache + surcharge) / GB * 10) / 10


def kv_mb_per_1k_tokens(shape: Shape | None) -> float:
    """Return what 1,000 tokens of context more add to the cache, in decimal MB, rounded up.

    The same rule as above; 0 where the shape is unknown.
    """
    if shape is None:
        return 0.0
    per_token = 2 * shape.kv_heads * shape.head_dim * KV_BYTES_PER_VALUE
    return math.ceil(per_token / 100) / 10


def shape_of(model_info: dict[str, Any]) -> Shape | None:
    """Return the shape that `/api/show` tells, or None where it does not."""
    arch = model_info.get("general.architecture")

    def told(key: str) -> Any:
        return model_info.get(f"{arch}.{key}")

    heads = told("attention.head_count")
    kv_heads = _over_layers(told("attention.head_count_kv") or heads, told("block_count"))
    key, value = told("attention.key_length"), told("attention.value_length")
    if kv_heads is None:
        return None
    if isinstance(key, int) and isinstance(value, int):
        return Shape(kv_heads=kv_heads, head_dim=(key + value) / 2)
    width = told("embedding_length")
    if isinstance(width, int) and isinstance(heads, int) and heads > 0:
        return Shape(kv_heads=kv_heads, head_dim=width / heads)
    return None


def _over_layers(heads: object, layers: object) -> int | None:
    """Return the heads of all layers; some architectures list them layer by layer."""
    if isinstance(heads, list) and all(isinstance(count, int) for count in heads):
        return sum(heads)
    return heads * layers if isinstance(heads, int) and isinstance(layers, int) else None


def billions(text: str) -> float | None:
    """Return the parameters that a name or size tells, in billions: `8.0B`, `137M`, `8x7b`."""
    if experts := _EXPERTS.search(text):
        # Experts share attention layers: Mixtral 8x7B has 46.7 billion, not 56.
        return float(experts[1]) * float(experts[2]) * 0.83
    found = _BILLIONS.search(text)
    if found is None:
        return None
    return float(found[1]) / (1 if found[2].lower() == "b" else 1000)


def quality_tier(parameters_b: float | None) -> QualityTier:
    """Return the tier of a chat model: basic below 3B, good below 13B, high below 60B."""
    if parameters_b is None:
        return "good"
    if parameters_b < 3:
        return "basic"
    if parameters_b < 13:
        return "good"
    return "high" if parameters_b < 60 else "exceptional"


def speed(parameters_b: float | None) -> Speed:
    """Return fast below 4B, medium below 15B, else slow, as on a desktop's memory bandwidth."""
    if parameters_b is None:
        return "medium"
    if parameters_b < 4:
        return "fast"
    return "medium" if parameters_b < 15 else "slow"


def is_embedding(name: str) -> bool:
    return bool(_EMBEDDING.search(name))


def is_text_model(name: str) -> bool:
    """Return False for names of models that make or read images, sound or rankings."""
    return not _NOT_TEXT.search(name)


def tasks(
    name: str, engine_capabilities: set[str], parameters_b: float | None
) -> tuple[TaskType, ...]:
    """Return the tasks a model may be chosen for.

    Embedding models embed. Chat models complete and analyse; from 3B, or where the engine says that
    it thinks, they reason; from 7B, or where the name says so, they write code.
    """
    if "embedding" in engine_capabilities or (not engine_capabilities and is_embedding(name)):
        return ("embedding",)
    found: list[TaskType] = ["completion"]
    size = 7 if parameters_b is None else parameters_b
    if size >= 3 or "thinking" in engine_capabilities:
        found.append("reasoning")
    if size >= 7 or _CODE.search(name):
        found.append("code")
    return (*found, "analysis")


def best_for(name: str, engine_capabilities: set[str]) -> tuple[str, ...]:
    """Return the tasks in which a model is preferred: what its makers built it for."""
    if "thinking" in engine_capabilities:
        return ("reasoning",)
    if "embedding" in engine_capabilities or (not engine_capabilities and is_embedding(name)):
        return ("embedding",)
    return ("code",) if _CODE.search(name) else ()

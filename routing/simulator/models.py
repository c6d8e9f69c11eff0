"""What a simulated host holds: its models, its memory, its limits.

Both come from one YAML (or JSON) file; the files in `presets/` are such files.
"""

import functools
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

MB = 10**6
GB = 10**9  # models are listed in decimal gigabytes, as Ollama's library does
PRESETS = Path(__file__).with_name("presets")
KV_BYTES_PER_VALUE = 2  # f16
FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15}  # GGUF's general.file_type
# Ollama's graph surcharge lies between 0.75 and 2 GiB; its lower end fits small batches.
GRAPH_BYTES = 3 * 2**28
FIRST_MODIFIED = datetime(2026, 1, 1, tzinfo=UTC)

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
CAPABILITIES = frozenset({"completion", "embedding", "insert", "thinking", "tools", "vision"})


class BadModelsFile(Exception):
    """Raised when a models file cannot be read; its text is one sentence for the operator."""


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulated model; sizes in bytes or decimal GB, times in seconds, speeds in tokens/s."""

    name: Annotated[str, Meta(min_length=1)]
    size_gb: Positive
    family: str = "llama"
    parameters: Count = 1_000_000_000
    parameter_size: str = ""
    quantization: str = "Q4_K_M"
    context_length: Count = 131_072
    blocks: Count = 32
    embedding_length: Count = 4096
    heads: Count = 32
    kv_heads: Count = 8
    head_dim: int = 0  # 0: embedding_length / heads
    feed_forward: Count = 14_336
    capabilities: tuple[str, ...] = ("completion",)
    load_time_s: Annotated[float, Meta(ge=0)] | None = None
    tokens_per_s: Positive = 50.0
    prompt_tokens_per_s: Positive = 1000.0
    slots: Count = 1  # OLLAMA_NUM_PARALLEL
    answer_tokens: Annotated[int, Meta(ge=0)] | None = None  # None: varies with the prompt
    # What the engine does not foresee; it counts only where memory is really allocated.
    real_factor: Positive = 1.0  # what a load takes, as a multiple of the predicted need
    growth_mb_per_1k_tokens: Annotated[float, Meta(ge=0)] = 0.0  # while a prompt is worked on

    def __post_init__(self) -> None:
        unknown = set(self.capabilities) - CAPABILITIES
        if unknown:
            known = ", ".join(sorted(CAPABILITIES))
            raise ValueError(f"unknown capability {min(unknown)!r}; known are {known}")

    @property
    def full_name(self) -> str:
        return self.name if ":" in self.name else f"{self.name}:latest"

    @property
    def size_bytes(self) -> int:
        return round(self.size_gb * GB)

    @property
    def load_s(self) -> float:
        """Seconds of a cold start; 0.3 s plus reading at 2 GB/s where the file names none."""
        return 0.3 + self.size_gb / 2 if self.load_time_s is None else self.load_time_s

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.full_name.encode()).hexdigest()

    def memory_bytes(self, num_ctx: int) -> int:
        """Return what the loaded model occupies: weights, KV cache for every slot, surcharge.

        Source: Ollama's estimate, 2 x layers x kv_heads x head_dim x context x 2 bytes x parallel.
        """
        head_dim = self.head_dim or self.embedding_length // self.heads
        values = 2 * self.blocks * self.kv_heads * head_dim * num_ctx * self.slots
        return self.size_bytes + values * KV_BYTES_PER_VALUE + GRAPH_BYTES

    def growth_bytes(self, prompt_tokens: int) -> int:
        """Return what one request occupies beside the loaded model until it is answered."""
        return round(self.growth_mb_per_1k_tokens * prompt_tokens / 1000 * MB)

    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size or f"{self.parameters / 1e9:.1f}B",
            "quantization_level": self.quantization,
        }

    def info(self) -> dict[str, Any]:
        """Return `model_info` of /api/show: GGUF keys, most of them led by the architecture."""
        arch = self.family
        head_dim = self.head_dim or self.embedding_length // self.heads
        return {
            "general.architecture": arch,
            "general.file_type": FILE_TYPES.get(self.quantization, 0),
            "general.parameter_count": self.parameters,
            "general.quantization_version": 2,
            f"{arch}.attention.head_count": self.heads,
            f"{arch}.attention.head_count_kv": self.kv_heads,
            f"{arch}.attention.key_length": head_dim,
            f"{arch}.attention.value_length": head_dim,
            f"{arch}.block_count": self.blocks,
            f"{arch}.context_length": self.context_length,
            f"{arch}.embedding_length": self.embedding_length,
            f"{arch}.feed_forward_length": self.feed_forward,
            "tokenizer.ggml.model": "simulated",
        }


class HostSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the simulated machine; the defaults are Ollama's own."""

    memory_gb: Positive = 64.0
    max_loaded: Count = 3  # OLLAMA_MAX_LOADED_MODELS
    max_queue: Count = 512  # OLLAMA_MAX_QUEUE
    keep_alive_s: float = 300.0  # OLLAMA_KEEP_ALIVE; negative: for ever
    num_ctx: Count = 4096  # OLLAMA_CONTEXT_LENGTH
    # Bytes really allocated for each simulated one, where memory is allocated at all.
    scale: Annotated[float, Meta(gt=0, le=1)] = 1.0

    @property
    def memory_bytes(self) -> int:
        return round(self.memory_gb * GB)


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole models file: the host and at least one model, each name once."""

    host: HostSpec = HostSpec()
    models: Annotated[tuple[Model, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        names = [model.full_name.lower() for model in self.models]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"model {min(twice)!r} is listed twice")

    def by_name(self) -> dict[str, Model]:
        """Return models by lower-case full name, as `find` looks them up."""
        return {model.full_name.lower(): model for model in self.models}

    def modified_at(self, model: Model) -> str:
        """Return a fixed time; earlier models of the file are newer, so listings keep its order."""
        age = timedelta(hours=self.models.index(model))
        return (FIRST_MODIFIED - age).isoformat().replace("+00:00", "Z")


def canonical(name: str) -> str:
    """Return the name as the catalogue keys it; a name without a tag means `:latest`."""
    lower = name.lower()
    return lower if ":" in lower else f"{lower}:latest"


def read_catalogue(path: Path) -> Catalogue:
    """Read a models file; raises BadModelsFile naming the field that is wrong."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Catalogue)
    except OSError as exc:
        raise BadModelsFile(f"Cannot read models file {path}: {exc.strerror}.") from exc
    except msgspec.DecodeError as exc:
        reason = " ".join(str(exc).split())
        raise BadModelsFile(f"Models file {path}: {reason}.") from exc


def presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


@functools.cache
def preset(name: str) -> Catalogue:
    """Return a shipped catalogue; raises BadModelsFile listing what there is."""
    if name not in presets():
        raise BadModelsFile(f"No preset {name!r}; there are {', '.join(presets())}.")
    return read_catalogue(PRESETS / f"{name}.yaml")

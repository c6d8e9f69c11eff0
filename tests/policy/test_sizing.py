"""What is guessed about a model from its published figures."""

import pytest

from routing.engine.memory import planned_need_gb
from routing.policy.sizing import (
    Shape,
    billions,
    kv_mb_per_1k_tokens,
    quality_tier,
    ram_required_gb,
    shape_of,
    speed,
    tasks,
)


def test_memory_is_weights_cache_and_surcharge() -> None:
    # llama3.1:8b at 4,096 tokens: 4.921 GB + 0.537 GB of cache + 0.805 GB = 6.263 GB.
    shape = Shape(kv_heads=32 * 8, head_dim=128)
    assert ram_required_gb(4_921_000_000, shape, 4096) == 6.3
    assert ram_required_gb(4_921_000_000, shape, 131_072) == 23.0


@pytest.mark.parametrize(
    ("weights_bytes", "shape", "num_ctx", "cache_bytes"),
    [
        # Ollama's rule, 2 x layers x KV heads x head dimension x context x 2 bytes, worked out by
        # hand: llama3.1:8b, qwen2.5:7b, gemma2:9b and gemma3:12b. Of Gemma's layers some look back
        # over a sliding window only, which takes less: all are counted in full, on the safe side.
        (4_921_000_000, Shape(kv_heads=32 * 8, head_dim=128), 131_072, 17_179_869_184),
        (4_683_000_000, Shape(kv_heads=28 * 4, head_dim=128), 32_768, 1_879_048_192),
        (5_443_000_000, Shape(kv_heads=42 * 8, head_dim=256), 8_192, 2_818_572_288),
        (8_149_000_000, Shape(kv_heads=48 * 8, head_dim=256), 2_048, 805_306_368),
    ],
)
def test_a_pinned_context_needs_what_ollamas_rule_says(
    weights_bytes: int, shape: Shape, num_ctx: int, cache_bytes: int
) -> None:
    ram_gb = ram_required_gb(weights_bytes, shape, 4096)
    need_gb = planned_need_gb(ram_gb, kv_mb_per_1k_tokens(shape), num_ctx)
    surcharge = min(max(weights_bytes / 10, 0.75 * 2**30), 2 * 2**30)
    by_ollama_gb = (weights_bytes + cache_bytes + surcharge) / 1e9
    # Never below where the context grows; both figures are rounded up.
    assert need_gb == pytest.approx(by_ollama_gb, abs=0.12)
    assert num_ctx < 4096 or need_gb >= by_ollama_gb


def test_without_a_pinned_context_the_engine_loads_its_own() -> None:
    assert planned_need_gb(6.3, 131.1, None) == 6.3
    assert planned_need_gb(6.3, 131.1, 4096) == 6.3
    assert planned_need_gb(0.0, 131.1, 8192) == 0.0


def test_the_surcharge_stays_within_ollamas_limits() -> None:
    nothing = Shape(kv_heads=0, head_dim=0)
    assert ram_required_gb(0, nothing, 1) == 0.9
    assert ram_required_gb(100_000_000_000, nothing, 1) == 102.2


def test_without_a_shape_the_cache_is_a_share_of_the_weights() -> None:
    assert ram_required_gb(10_000_000_000, None, 4096) == 13.0


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (
            {"a.block_count": 2, "a.attention.head_count": 4, "a.embedding_length": 64},
            Shape(kv_heads=8, head_dim=16),
        ),
        (
            {
                "a.block_count": 3,
                "a.attention.head_count": 8,
                "a.attention.head_count_kv": [2, 0, 2],
                "a.attention.key_length": 192,
                "a.attention.value_length": 128,
            },
            Shape(kv_heads=4, head_dim=160),
        ),
        ({"a.block_count": "two"}, None),
        ({}, None),
    ],
)
def test_the_shape_is_read_from_what_the_engine_shows(info: object, expected: object) -> None:
    assert isinstance(info, dict)
    assert shape_of({"general.architecture": "a", **info}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.0B", 8.0),
        ("494.03M", 0.49403),
        ("llama3.2:1b", 1.0),
        ("mixtral:8x7b", 46.48),
        ("Qwen2.5-72B-Instruct", 72.0),
        ("gpt-4o", None),
        ("phi3:mini", None),
    ],
)
def test_sizes_are_read_from_names(text: str, expected: float | None) -> None:
    assert billions(text) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("parameters_b", "tier", "pace"),
    [
        (1.2, "basic", "fast"),
        (3.2, "good", "fast"),
        (8, "good", "medium"),
        (14.8, "high", "medium"),
        (32, "high", "slow"),
        (70, "exceptional", "slow"),
        (None, "good", "medium"),
    ],
)
def test_bigger_is_better_and_slower(parameters_b: float | None, tier: str, pace: str) -> None:
    assert (quality_tier(parameters_b), speed(parameters_b)) == (tier, pace)


@pytest.mark.parametrize(
    ("name", "able", "size", "expected"),
    [
        ("tiny", {"completion"}, 1.0, {"completion", "analysis"}),
        ("starcoder2:3b", {"completion"}, 3.0, {"completion", "analysis", "reasoning", "code"}),
        ("thinker:1b", {"completion", "thinking"}, 1.0, {"completion", "analysis", "reasoning"}),
        ("anything", {"embedding"}, 8.0, {"embedding"}),
        ("text-embedding-3-small", set(), None, {"embedding"}),
        ("gpt-4o", set(), None, {"completion", "analysis", "reasoning", "code"}),
    ],
)
def test_tasks_follow_from_abilities_and_size(
    name: str, able: set[str], size: float | None, expected: set[str]
) -> None:
    assert set(tasks(name, able, size)) == expected

"""What is guessed about a model from its published figures."""

import pytest

from routing.policy.sizing import (
    Shape,
    billions,
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

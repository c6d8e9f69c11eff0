"""The script in Redis and the bucket in Python are one and the same."""

from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.coordination.rates import SAID
from routing.coordination.rates_script import ASK
from routing.engine.rates import DAY_US, MINUTE_US, Ask, Bucket, Grant
from telemetry.redis_names import RATES

GIVEN_CLOCK = "local now = tonumber(ARGV[18])\n"
START_US = 1_790_000_000_000_000

asks = st.fixed_dictionaries(
    {
        "worker": st.sampled_from("abc"),
        "seq": st.integers(1, 12),
        "holds": st.integers(0, 20),
        "back": st.integers(0, 20),
        "extra": st.integers(0, 5),
        "least": st.integers(0, 5),
        "wanted": st.integers(0, 30),
        "ahead": st.integers(0, 30),
        "born_us": st.sampled_from([0, 1]),
        "owed_us": st.integers(0, MINUTE_US),
        "most": st.sampled_from([0, 0, 0, 1, 7, 1000]),  # 0: the limit at first
    }
)
steps = st.lists(st.tuples(st.integers(0, 3 * MINUTE_US), asks, st.integers(1, 4)), max_size=12)


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(1, 100_000), st.sampled_from([0, MINUTE_US, DAY_US]), steps)
def test_both_answer_the_same(
    client: redis.Redis,
    most: int,
    period_us: int,
    steps: list[tuple[int, dict[str, Any], int]],
) -> None:
    client.delete(RATES + "x")
    bucket, now_us = Bucket(most, period_us, most), START_US
    for passed_us, fields, workers in steps:
        now_us += passed_us
        ask = Ask(ttl_us=5_000_000, **{**fields, "most": fields["most"] or most})
        assert _in_redis(client, now_us, bucket, ask, workers) == bucket.ask(now_us, ask, workers)


def _in_redis(client: redis.Redis, now_us: int, bucket: Bucket, ask: Ask, workers: int) -> Grant:
    given_ = (
        ask.worker, ask.seq, ask.holds, ask.back, ask.extra, ask.least, ask.wanted, ask.ahead,
        ask.ttl_us, ask.born_us, ask.owed_us, ask.most, bucket.period_us, ask.most,
        workers, "channel", "x", now_us,
    )  # fmt: skip
    said = client.eval(GIVEN_CLOCK + ASK, 1, RATES + "x", *given_)
    return Grant(**dict(zip(SAID, said, strict=True)))

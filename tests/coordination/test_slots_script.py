"""The script that shares places out, over a real Redis, in any order of questions."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.coordination.slots import _FIGURES
from routing.coordination.slots_script import SHARE_OUT
from routing.engine.concurrency import CALM_GROWTH, CUT

LONG_MS = 60_000


@dataclass
class Desk:
    """Workers at one endpoint, each asking in its turn."""

    client: redis.Redis
    limit: int = 0
    first: int = 4
    ttl_ms: int = LONG_MS
    held: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    told: tuple[float, int, int] = (0.0, 0, 0)

    def __post_init__(self) -> None:
        self.client.delete("test:slots")
        self.script = self.client.register_script(SHARE_OUT)

    def ask(self, who: str, want: int, *, vote: int = 0, give_way: bool = False) -> int:
        figures = [vote, self.limit, self.first, self.ttl_ms, int(give_way), *_FIGURES]
        arguments: list[Any] = [who, self.used.get(who, 0), want, *figures, "test:channel", "here"]
        held, limit, workers, hungry, _ = self.script(keys=["test:slots"], args=arguments)
        self.held[who] = held
        self.told = (float(limit), workers, hungry)
        return int(held)


@pytest.fixture(scope="module")
def client(embedded_engines: object) -> Iterator[redis.Redis]:
    url = embedded_engines.redis_url  # type: ignore[attr-defined]
    with redis.Redis.from_url(url) as made:
        yield made


def test_who_is_alone_gets_what_it_wants_up_to_the_limit(client: redis.Redis) -> None:
    desk = Desk(client, limit=8)
    assert desk.ask("a", 3) == 3
    assert desk.ask("a", 30) == 8
    assert desk.ask("a", 0) == 0


def test_a_second_worker_gets_its_half_back_as_the_first_one_asks(client: redis.Redis) -> None:
    desk = Desk(client, limit=8)
    desk.ask("a", 8)
    assert desk.ask("b", 8) == 0
    assert desk.ask("a", 8) == 4
    assert desk.told[2] == 1, "b is hungry"
    assert desk.ask("b", 8) == 4


def test_what_is_in_use_is_not_taken(client: redis.Redis) -> None:
    desk = Desk(client, limit=4)
    desk.ask("a", 4)
    desk.used["a"] = 3
    desk.ask("b", 4)
    assert desk.ask("a", 4) == 3
    assert desk.ask("b", 4) == 1


def test_one_place_goes_round_in_the_order_of_asking(client: redis.Redis) -> None:
    desk, holders = Desk(client, limit=1), []
    workers = "abc"
    for who in workers:
        desk.ask(who, 1)
    for _ in range(6):
        holder = next(who for who, held in desk.held.items() if held)
        holders.append(holder)
        assert desk.ask(holder, 1) == 1, "its turn is not over"
        assert desk.ask(holder, 1, give_way=True) == 0
        for who in workers:
            desk.ask(who, 1)
    assert "".join(holders) in ("abcabc", "acbacb")


def test_who_is_not_heard_of_loses_its_places(client: redis.Redis) -> None:
    desk = Desk(client, limit=2, ttl_ms=-1)
    desk.ask("a", 2)
    assert desk.ask("b", 2) == 2


def test_workers_vote_on_one_limit(client: redis.Redis) -> None:
    desk = Desk(client)
    desk.ask("a", 1, vote=1)
    assert desk.told[0] == 8
    desk.ask("b", 1, vote=1)
    assert desk.told[0] == 8, "the same moment"
    desk.ask("b", 1, vote=-1)
    assert desk.told[0] == pytest.approx(8 * CUT)
    desk.ask("a", 1, vote=-1)
    assert desk.told[0] == pytest.approx(8 * CUT)


def test_a_limit_grows_as_the_engine_says(client: redis.Redis) -> None:
    desk = Desk(client, first=100)
    desk.ask("a", 1, vote=-1)
    cut = desk.told[0]
    raw = client.hget("test:slots", "ceiling")
    assert raw is not None
    limit, settled, changed, at, turn = json.loads(raw)
    for ago_s, grown in ((2.0, cut + 1), (4.0, cut * CALM_GROWTH)):
        shifted = [limit, settled, changed - ago_s * 1000, at - ago_s * 1000, turn]
        client.hset("test:slots", "ceiling", json.dumps(shifted))
        desk.ask("a", 1, vote=1)
        assert desk.told[0] == pytest.approx(grown)


def test_a_limit_that_was_cut_is_come_down_to(client: redis.Redis) -> None:
    desk = Desk(client, first=8)
    desk.ask("a", 8)
    desk.used["a"] = 8
    desk.ask("a", 8, vote=-1)
    desk.ask("a", 8)
    limit, workers, hungry = desk.told
    assert limit == pytest.approx(8 * CUT)
    assert (workers, hungry) == (1, 1), "more is held than the limit"
    desk.used["a"] = 5
    assert desk.ask("a", 8) == 5
    assert desk.told[2] == 0


QUESTIONS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.integers(0, 9), st.booleans()),
    max_size=40,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(limit=st.integers(1, 12), questions=QUESTIONS)
def test_the_sum_keeps_to_the_limit_and_everybody_comes_to_its_share(
    client: redis.Redis, limit: int, questions: list[tuple[str, int, int, bool]]
) -> None:
    desk, wants = Desk(client, limit=limit), dict[str, int]()
    for who, want, use, give_way in questions:
        desk.used[who] = min(use, desk.held.get(who, 0))
        wants[who] = max(want, desk.used[who])
        held = desk.ask(who, wants[who], give_way=give_way)
        assert held >= desk.used[who], "a place in use was taken away"
        assert sum(desk.held.values()) <= limit
    desk.used.clear()
    hungry = {who for who, want in wants.items() if want}
    fair = limit // max(len(hungry), 1)
    for _ in range(3):
        for who in wants:
            desk.ask(who, wants[who])
    for who in hungry:
        assert desk.held[who] >= min(wants[who], fair)
    assert sum(desk.held.values()) == min(limit, sum(wants.values())) or fair == 0

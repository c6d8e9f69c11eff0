"""The order of those who wait, and the bounds of waiting; the clock is the test's."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routing.engine.admission import (
    AGING_S,
    BATCHING_SHARE,
    PASSED_OVER,
    RANKS,
    SHARES,
    Queue,
    Readiness,
    Ticket,
    TicketState,
)
from routing.engine.errors import Crowded

WARM = Readiness(True)


def ticket(at: float = 0.0, priority: str = "normal", **more: Any) -> Ticket:
    told: dict[str, Any] = {"offering": "warm", "longest_s": 1000.0, **more}
    return Ticket(rank=RANKS[priority], at=at, **told)


def queue_of(*tickets: Ticket, limit: int = 100) -> Queue:
    queue = Queue("here", limit)
    for one in tickets:
        queue.join(one, 1)
    return queue


def order(queue: Queue, now: float = 1.0, ready: Any = lambda offering: WARM) -> list[Ticket]:
    """Grant until nobody can go."""
    granted = []
    while (one := queue.take(now, ready)) is not None:
        granted.append(one)
    return granted


def test_priority_goes_first_then_who_came_first() -> None:
    low, first, second = ticket(0, "low"), ticket(1), ticket(2)
    critical = ticket(3, "critical")
    assert order(queue_of(low, first, second, critical)) == [critical, first, second, low]


def test_tenants_take_turns_whatever_each_has_waiting() -> None:
    many = [ticket(i, tenant="many") for i in range(4)]
    few = [ticket(9, tenant="few"), ticket(9, tenant="few")]
    granted = order(queue_of(*many, *few))
    assert [t.tenant for t in granted] == ["many", "few", "many", "few", "many", "many"]


def test_a_tenant_is_served_by_its_share() -> None:
    large = [ticket(i, tenant="large", share=2.0) for i in range(40)]
    small = [ticket(i, tenant="small") for i in range(40)]
    granted = [t.tenant for t in order(queue_of(*large, *small))][:30]
    assert granted.count("large") == 20
    assert granted[:6].count("small") == 2


def test_a_tenant_gathers_no_credit_while_it_is_away() -> None:
    queue = queue_of(*(ticket(i, tenant="many") for i in range(10)))
    for _ in range(5):
        queue.take(0, lambda offering: WARM)
    for at in range(3):
        queue.join(ticket(at, tenant="late"), 1)
    assert [t.tenant for t in order(queue)][:4] in (
        ["many", "late", "many", "late"],
        ["late", "many", "late", "many"],
    )


def test_a_starved_priority_gets_one_turn() -> None:
    low = ticket(0, "low")
    queue = queue_of(low, *(ticket(0, "high") for _ in range(PASSED_OVER + 5)))
    granted = order(queue, now=AGING_S)
    assert granted.index(low) == PASSED_OVER


def test_who_has_not_waited_long_is_not_starved() -> None:
    low = ticket(0, "low")
    queue = queue_of(low, *(ticket(0, "high") for _ in range(PASSED_OVER + 5)))
    assert order(queue, now=AGING_S / 2)[-1] is low


def both(cold: Readiness) -> Any:
    return {"warm": WARM, "cold": cold}.__getitem__


def test_a_loaded_model_goes_before_one_that_must_load() -> None:
    cold, warm = ticket(0, offering="cold"), ticket(1)
    assert order(queue_of(cold, warm), ready=both(Readiness(False, True))) == [warm, cold]


def test_who_may_not_load_holds_nobody_up() -> None:
    cold, warm = ticket(0, "critical", offering="cold"), ticket(1, "low")
    queue = queue_of(cold, warm)
    assert order(queue, ready=both(Readiness(False))) == [warm]
    assert cold.state is TicketState.WAITING


def test_a_cold_request_goes_first_once_it_waited_long_enough() -> None:
    cold = ticket(0, offering="cold", longest_s=30.0)
    queue = queue_of(cold, ticket(1), ticket(2))
    assert order(queue, 30 * BATCHING_SHARE, both(Readiness(False, True)))[0] is cold


@pytest.mark.parametrize("priority", list(RANKS))
def test_lower_priorities_may_fill_less_of_the_queue(priority: str) -> None:
    room = int(10 * SHARES[RANKS[priority]])
    queue = queue_of(*(ticket(0, priority) for _ in range(room)), limit=10)
    with pytest.raises(Crowded, match="as many requests waiting") as told:
        queue.join(ticket(0, priority), 1)
    assert told.value.retry_after_s
    assert not told.value.counts


def test_who_cannot_be_served_in_time_is_refused_at_once() -> None:
    queue = queue_of(ticket(), ticket(), ticket())
    queue.service_s = 2.0
    with pytest.raises(Crowded, match="too late") as told:
        queue.join(ticket(longest_s=7.9), 1)
    assert told.value.retry_after_s == 8.0
    queue.join(ticket(longest_s=7.9), 2)


def test_the_expected_wait_counts_only_those_who_go_before() -> None:
    queue = queue_of(*(ticket(0, "low") for _ in range(5)))
    queue.service_s = 1.0
    queue.join(ticket(0, "high", longest_s=1.0), 1)
    assert [queue.position(t) for t in queue] == [1, 2, 3, 4, 5, 6]


class Admission(RuleBasedStateMachine):
    """Any course of joining, granting, leaving and waiting keeps the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.running, self.slots = 0.0, 0, 2
        self.queue = Queue("here", 12)
        self.joined: list[Ticket] = []
        self.ended: list[Ticket] = []
        self.may_load = True
        self.grants_since: dict[int, int] = {}

    def ready(self, offering: str) -> Readiness:
        return Readiness(offering == "warm", self.may_load)

    @rule(
        priority=st.sampled_from(list(RANKS)),
        tenant=st.sampled_from("abc"),
        offering=st.sampled_from(("warm", "cold")),
        longest_s=st.sampled_from((0.5, 5.0, 30.0)),
    )
    def join(self, priority: str, tenant: str, offering: str, longest_s: float) -> None:
        one = ticket(self.now, priority, tenant=tenant, offering=offering, longest_s=longest_s)
        before = len(self.queue)
        try:
            self.queue.join(one, self.slots)
        except Crowded:
            assert len(self.queue) == before
        else:
            self.joined.append(one)
            self.grants_since[id(one)] = 0

    @precondition(lambda self: self.running < self.slots)
    @rule()
    def grant(self) -> None:
        waiting = list(self.queue)
        one = self.queue.take(self.now, self.ready)
        if one is None:
            assert not any(self.ready(t.offering).can_go for t in waiting)
            return
        self.running += 1
        self.ended.append(one)
        for other in self.queue:
            self.grants_since[id(other)] += 1
        self.check_order(one, waiting)

    def check_order(self, one: Ticket, waiting: list[Ticket]) -> None:
        same = [t for t in waiting if t.rank == one.rank and t.tenant == one.tenant]
        earlier = same[: same.index(one)]
        if one.offering == "warm":
            assert not any(t.offering == "warm" for t in earlier)
        elif not one.impatient(self.now):
            assert not any(t.offering == "warm" for t in same)
        if self.now < AGING_S:
            assert not any(t.rank > one.rank and self.ready(t.offering).can_go for t in waiting)

    @precondition(lambda self: self.running > 0)
    @rule(took_s=st.floats(0.01, 3.0))
    def leave(self, took_s: float) -> None:
        self.running -= 1
        self.queue.served(took_s)

    @precondition(lambda self: len(self.queue) > 0)
    @rule(which=st.integers(0, 11))
    def withdraw(self, which: int) -> None:
        waiting = list(self.queue)
        one = waiting[which % len(waiting)]
        assert self.queue.withdraw(one)
        assert not self.queue.withdraw(one)
        self.ended.append(one)

    @rule(seconds=st.sampled_from((0.1, 1.0, 6.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(may=st.booleans())
    def loading(self, may: bool) -> None:
        self.may_load = may

    @invariant()
    def nobody_is_lost_or_served_twice(self) -> None:
        waiting = list(self.queue)
        assert len(waiting) == len(self.queue) <= 12
        assert len({id(t) for t in self.ended}) == len(self.ended)
        assert {id(t) for t in (*waiting, *self.ended)} == {id(t) for t in self.joined}
        assert all(t.state is TicketState.WAITING for t in waiting)
        assert all(t.state is not TicketState.WAITING for t in self.ended)
        assert self.queue.expected_s(self.slots) > 0

    def teardown(self) -> None:
        """Whoever still waits is served in a bounded number of grants, whoever comes meanwhile."""
        self.now += 1000.0
        self.may_load = True
        waiting, grants = set(map(id, self.queue)), 0
        while waiting:
            rival = ticket(self.now, "critical", tenant="rival")
            self.queue.add(rival)
            one = self.queue.take(self.now, self.ready)
            assert one is not None
            waiting.discard(id(one))
            grants += 1
            assert grants <= 12 * (PASSED_OVER + 1) * len(RANKS)


TestAdmission = Admission.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

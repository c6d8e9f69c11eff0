"""When a breaker opens, for how long, and who may try."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from routing.engine.breaker import Breaker, BreakerRules, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState
RULES = BreakerRules()


def failing(times: int, *, at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker.begin(at)
        breaker.fail(at, began=at)
    return breaker


def test_five_failures_in_a_row_open_it_for_fifteen_seconds() -> None:
    assert failing(4).state is CLOSED
    breaker = failing(5)
    assert breaker.state is OPEN
    assert not breaker.allows(14.999)
    assert breaker.allows(15.0)


def test_a_success_in_between_starts_the_row_anew() -> None:
    breaker = Breaker()
    for at in range(0, 400, 100):  # too far apart for the window
        for _ in range(4):
            breaker.fail(at, began=at)
        breaker.succeed(at, began=at)
        breaker.succeed(at + 31, began=at)
    assert breaker.consecutive == 0


def test_half_of_five_calls_within_the_window_open_it() -> None:
    breaker = Breaker()
    for at, failed in enumerate((False, True, False, True, True)):
        (breaker.fail if failed else breaker.succeed)(at, began=at)
    assert breaker.state is OPEN


def test_calls_older_than_the_window_do_not_count() -> None:
    breaker = Breaker()
    for at, failed in ((0, True), (1, True), (2, False), (33, True), (34, False), (35, False)):
        (breaker.fail if failed else breaker.succeed)(at, began=at)
    assert breaker.state is CLOSED


def test_four_calls_are_too_few_for_a_rate() -> None:
    breaker = Breaker()
    for at, failed in enumerate((True, False, True, True)):
        (breaker.fail if failed else breaker.succeed)(at, began=at)
    assert breaker.state is CLOSED


def test_slow_answers_open_it_too() -> None:
    breaker = Breaker()
    changes = [breaker.succeed(at, began=at, slow=True) for at in range(5)]
    assert changes == [False, False, False, False, True]


def test_openings_double_up_to_five_minutes_and_start_anew_after_a_success() -> None:
    breaker, now, lengths = failing(5), 0.0, []
    for _ in range(7):
        lengths.append(breaker.open_until - now)
        now = breaker.open_until
        assert breaker.begin(now)
        breaker.fail(now, began=now)
    assert lengths == [15, 30, 60, 120, 240, 300, 300]
    now = breaker.open_until
    breaker.begin(now)
    assert breaker.succeed(now, began=now)
    for _ in range(5):
        breaker.fail(now, began=now)
    assert breaker.open_until - now == 15


def test_jitter_lengthens_an_opening_by_a_fifth_at_most() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.fail(0.0, began=0.0, jitter=1.0)
    assert breaker.open_until == 18.0


def test_retry_after_is_honoured_to_the_second() -> None:
    breaker = Breaker()
    assert breaker.fail(0.0, began=0.0, retry_after_s=3.0)
    assert (breaker.allows(2.9), breaker.allows(3.0)) == (False, True)


def test_a_later_retry_after_lengthens_an_opening_and_never_shortens_it() -> None:
    breaker = failing(5)
    breaker.fail(1.0, began=0.0, retry_after_s=100.0)
    assert breaker.open_until == 101.0
    breaker.fail(2.0, began=0.0, retry_after_s=1.0)
    assert breaker.open_until == 101.0


def test_a_dead_upstream_that_is_seen_again_is_probed_at_once() -> None:
    breaker = failing(5)
    assert not breaker.ripen(3.0, seen_at=0.0), "that was before it opened"
    generation = breaker.generation
    assert breaker.ripen(3.0, seen_at=2.0)
    assert breaker.generation > generation
    assert breaker.state is OPEN
    assert breaker.allows(3.0)
    breaker.begin(3.0)
    breaker.fail(3.1, began=3.0)
    assert not breaker.ripen(5.0, seen_at=4.0), "it was given its chance"
    assert not breaker.allows(33.0)
    assert breaker.allows(33.1)


def test_nothing_ripens_that_is_closed_or_whose_time_is_up() -> None:
    assert not Breaker().ripen(3.0, seen_at=2.0)
    breaker = failing(5)
    assert not breaker.ripen(15.0, seen_at=14.0)


def test_only_one_probe_at_a_time() -> None:
    breaker = failing(5)
    assert breaker.begin(15.0)
    assert breaker.state is HALF_OPEN
    assert not breaker.begin(15.1)


def test_a_lost_probe_frees_its_place() -> None:
    breaker = failing(5)
    breaker.begin(15.0)
    assert not breaker.begin(15.0 + RULES.probe_timeout_s - 0.1)
    assert breaker.begin(15.0 + RULES.probe_timeout_s)


def test_an_abandoned_probe_frees_its_place_and_proves_nothing() -> None:
    breaker = failing(5)
    breaker.begin(15.0)
    breaker.abandon(15.0)
    assert breaker.state is OPEN
    assert breaker.begin(15.1)


def test_late_outcomes_of_calls_begun_before_the_opening_prove_nothing() -> None:
    breaker = failing(5)
    breaker.begin(15.0)
    for late in (breaker.succeed, breaker.fail):
        assert not late(16.0, began=0.0)
        assert breaker.state is HALF_OPEN
    breaker.abandon(0.0)
    assert not breaker.begin(16.0)
    assert breaker.succeed(17.0, began=15.0)
    assert breaker.state is CLOSED


def test_an_opening_elsewhere_is_taken_over_and_the_probe_proves_nothing() -> None:
    breaker = failing(5)
    breaker.begin(15.0)
    breaker.hear(16.0, generation=0.0, open_until=60.0)
    assert not breaker.begin(60.0), "the old probe is still under way"
    assert not breaker.succeed(60.0, began=15.0)
    assert not breaker.allows(59.9)
    assert breaker.begin(60.0)


def test_nothing_is_tried_before_its_time_beside_a_probe_that_is_under_way() -> None:
    breaker = failing(5)
    assert breaker.begin(15.0)
    breaker.hear(16.0, generation=0.0, open_until=60.0)
    assert not breaker.hasten(20.0)
    assert not breaker.ripen(20.0, seen_at=19.0)
    breaker.abandon(15.0)
    assert breaker.hasten(20.0)


def test_an_echo_of_the_last_opening_leaves_the_probe_alone() -> None:
    breaker = failing(5)
    breaker.begin(15.0)
    breaker.hear(16.0, generation=0.0, open_until=15.000001, openings=1)
    assert breaker.succeed(17.0, began=15.0)


def test_news_of_a_shorter_opening_shorten_nothing() -> None:
    breaker = failing(5)
    breaker.hear(1.0, generation=0.0, open_until=3.0)
    assert breaker.open_until == 15.0


def test_an_opening_from_before_the_last_closing_is_void() -> None:
    breaker = failing(5)
    breaker.hear(1.0, generation=7.0, open_until=None)
    assert breaker.state is CLOSED
    breaker.hear(2.0, generation=6.9, open_until=900.0)
    assert breaker.state is CLOSED
    breaker.hear(3.0, generation=7.0, open_until=900.0)
    assert breaker.state is OPEN


def test_a_breaker_heard_of_as_open_does_not_close_by_time_alone() -> None:
    breaker = Breaker()
    breaker.hear(1000.0, generation=0.0, open_until=-5.0, openings=2)
    assert breaker.state is OPEN
    assert breaker.begin(1000.0)
    assert not breaker.begin(1000.1)
    breaker.fail(1001.0, began=1000.0)
    assert breaker.open_until == 1001.0 + 60


def test_a_probe_elsewhere_holds_it_until_news_of_the_outcome() -> None:
    breaker = failing(5)
    breaker.hold(20.0)
    assert (breaker.allows(19.9), breaker.allows(20.0)) == (False, True)
    breaker.hear(16.0, generation=1.0, open_until=None)
    assert breaker.allows(16.0)


def test_the_end_of_a_probe_is_told_once_whatever_it_was() -> None:
    ended: list[float] = []
    for end in ("succeed", "fail", "abandon"):
        breaker = failing(5)
        breaker.begin(15.0)
        breaker.when_probe_ends(15.0, lambda: ended.append(1.0))
        if end == "abandon":
            breaker.abandon(15.0)
        else:
            getattr(breaker, end)(16.0, began=15.0)
        breaker.abandon(15.0)
    assert len(ended) == 3


def test_an_answer_may_be_called_slow_after_it_was_counted() -> None:
    breaker, changes = Breaker(), []
    for at in range(5):
        assert not breaker.succeed(at, began=at)
        changes.append(breaker.slow(at))
    assert changes == [False, False, False, False, True]


class Machine(RuleBasedStateMachine):
    """Any course of calls, outcomes, news and time leaves the promises standing."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.probes: set[float] = set()
        self.probes_at_closing: set[float] = set()
        self.until = 0.0

    @rule(seconds=st.floats(0.01, 40) | st.floats(100, 400))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.until = max(self.until, self.breaker.open_until)

    @rule(target=calls)
    def begin(self) -> tuple[float, bool]:
        before, allowed = self.breaker.state, self.breaker.allows(self.now)
        begun = self.breaker.begin(self.now)
        assert begun == allowed
        if begun and before is not CLOSED:
            assert self.now >= self.breaker.open_until
            live = {p for p in self.probes if self.now - p < RULES.probe_timeout_s}
            assert not live, "two probes at once"
            self.probes.add(self.now)
        elif not begun:
            assert before is not CLOSED
        began = self.now
        self.now += 0.001  # no two calls begin at once
        return began, begun

    @rule(call=consumes(calls), slow=st.booleans())
    def succeed(self, call: tuple[float, bool], slow: bool) -> None:
        began, begun = call
        if not begun:
            return
        before = self.breaker.state
        changed = self.breaker.succeed(self.now, began=began, slow=slow)
        assert changed == (before is not self.breaker.state)
        if changed and before is not CLOSED:
            assert began in self.probes
            assert began not in self.probes_at_closing, "it was begun before the last closing"
            assert self.breaker.open_until == 0.0
        self.probes.discard(began)

    @rule(
        call=consumes(calls),
        jitter=st.floats(0, 1),
        retry_after_s=st.just(0.0) | st.floats(0.01, 1000),
    )
    def fail(self, call: tuple[float, bool], jitter: float, retry_after_s: float) -> None:
        began, begun = call
        if not begun:
            return
        before, until = self.breaker.state, self.breaker.open_until
        changed = self.breaker.fail(
            self.now, began=began, jitter=jitter, retry_after_s=retry_after_s
        )
        assert changed == (self.breaker.open_until > until), "others must know, and only then"
        assert self.breaker.open_until >= until, "an opening was shortened"
        if retry_after_s > 0:
            assert not self.breaker.allows(self.now)
            assert self.breaker.open_until >= self.now + retry_after_s
        in_time = self.now - began < RULES.probe_timeout_s
        if began in self.probes and in_time and before is HALF_OPEN:
            assert self.breaker.state is OPEN
        self.probes.discard(began)

    @rule(call=consumes(calls))
    def abandon(self, call: tuple[float, bool]) -> None:
        began, begun = call
        if begun:
            before = self.breaker.state
            self.breaker.abandon(began)
            self.probes.discard(began)
            assert (before is CLOSED) == (self.breaker.state is CLOSED)

    @rule(seconds=st.floats(-50, 500), openings=st.integers(0, 20))
    def hear_of_an_opening(self, seconds: float, openings: int) -> None:
        breaker = self.breaker
        until, generation = breaker.open_until, breaker.generation
        for _ in range(2):  # once is as good as twice
            breaker.hear(
                self.now, generation=generation, open_until=self.now + seconds, openings=openings
            )
            assert breaker.state is not CLOSED
            assert breaker.open_until == max(until, self.now + seconds)

    @precondition(lambda self: self.breaker.generation > 0)
    @rule(seconds=st.floats(-50, 500))
    def hear_of_what_is_over(self, seconds: float) -> None:
        before = (self.breaker.state, self.breaker.open_until)
        self.breaker.hear(
            self.now, generation=self.breaker.generation / 2, open_until=self.now + seconds
        )
        assert (self.breaker.state, self.breaker.open_until) == before

    @precondition(lambda self: self.breaker.state is not CLOSED)
    @rule()
    def hear_of_a_closing(self) -> None:
        self.breaker.hear(self.now, generation=self.breaker.generation + 1, open_until=None)
        assert self.breaker.state is CLOSED
        self.probes_at_closing |= self.probes

    @rule(ago=st.floats(0, 400))
    def the_upstream_is_seen_again(self, ago: float) -> None:
        breaker = self.breaker
        before = (breaker.state, breaker.open_until, breaker.openings, breaker.generation)
        if breaker.ripen(self.now, self.now - ago):
            assert (before[0], before[2]) == (OPEN, min(before[2], 1))
            assert breaker.generation > before[3]
            assert breaker.open_until == self.now < before[1]
        else:
            assert before == (
                breaker.state, breaker.open_until, breaker.openings, breaker.generation,
            )  # fmt: skip

    @rule(seconds=st.floats(0.1, 5))
    def somebody_else_probes(self, seconds: float) -> None:
        self.breaker.hold(self.now + seconds)

    @invariant()
    def it_always_opens_for_somebody_in_the_end(self) -> None:
        far = max(self.now + 5, self.breaker.open_until) + RULES.probe_timeout_s
        assert self.breaker.allows(far)

    @invariant()
    def a_closed_one_lets_everybody_through(self) -> None:
        if self.breaker.state is CLOSED:
            assert self.breaker.allows(self.now)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

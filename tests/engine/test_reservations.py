"""The ledger of one host's loads, whatever is asked of it and whenever."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routing.engine.reservations import (
    KEEP_MS,
    SETTLE_MS,
    Granted,
    HostBusy,
    Joined,
    Ledger,
    NoRoom,
    Wish,
)

TOTAL_MB = 100
TTL_MS = 1_000


def wish(key: str = "a", need_mb: int = 40, **more: int) -> Wish:
    told = {"room_mb": TOTAL_MB, "expected_ms": 500, "ttl_ms": TTL_MS, **more}
    return Wish(key=key, token=f"{key}-token", need_mb=need_mb, **told)


def test_one_load_at_a_time() -> None:
    ledger = Ledger()
    assert ledger.reserve(wish(), 0) == Granted("a-token")
    assert ledger.reserve(wish("b", 1), 100) == HostBusy("a", 400)


def test_the_same_load_is_joined() -> None:
    ledger = Ledger()
    ledger.reserve(wish(), 0)
    assert ledger.reserve(wish(), 100) == Joined("a-token", 400, loaded=False)
    ledger.settle("a", "a-token", 200)
    assert ledger.reserve(wish(), 300) == Joined("a-token", 0, loaded=True)


def test_a_load_counts_until_a_measurement_can_show_it() -> None:
    ledger = Ledger()
    ledger.reserve(wish(need_mb=60), 0)
    ledger.settle("a", "a-token", 100)
    assert ledger.reserve(wish("b", 41), 200) == NoRoom(40, 60)
    late = 100 + SETTLE_MS
    assert ledger.reserve(wish("b", 41, age_ms=1), late) == NoRoom(40, 60)
    assert ledger.reserve(wish("b", 41), late) == Granted("b-token")


def test_what_is_evicted_again_may_be_loaded_again() -> None:
    ledger = Ledger()
    ledger.reserve(wish(), 0)
    ledger.settle("a", "a-token", 100)
    assert isinstance(ledger.reserve(wish(), 100 + SETTLE_MS), Granted)


def test_a_promise_lapses_unless_it_is_renewed() -> None:
    ledger = Ledger()
    ledger.reserve(wish(), 0)
    assert ledger.renew("a", "a-token", TTL_MS, 900)
    assert isinstance(ledger.reserve(wish("b", 1), 1_899), HostBusy)
    assert ledger.reserve(wish("b", 1), 1_900) == Granted("b-token")
    assert not ledger.renew("a", "a-token", TTL_MS, 1_900)


def test_only_its_holder_ends_a_promise() -> None:
    ledger = Ledger()
    ledger.reserve(wish(), 0)
    assert not ledger.release("a", "other", 1)
    assert not ledger.settle("a", "other", 1)
    assert ledger.release("a", "a-token", 1)
    assert ledger.reserve(wish("b"), 2) == Granted("b-token")


class Host(RuleBasedStateMachine):
    """Callers that load, fail, die and measure late, on a host that knows what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger, self.now = Ledger(), 1
        self.loading: dict[str, tuple[int, int]] = {}  # key: need, lapses
        self.loaded: dict[str, tuple[int, int]] = {}  # key: need, since

    def used(self, at: int) -> int:
        """Return the memory that a measurement at `at` shows."""
        return sum(need for need, since in self.loaded.values() if since <= at)

    @rule(ms=st.integers(1, 1500))
    def time_passes(self, ms: int) -> None:
        self.now += ms
        # Whoever does not renew has died: the engine gives up its load too.
        self.loading = {k: v for k, v in self.loading.items() if v[1] > self.now}

    @rule(key=st.sampled_from("abc"), need=st.integers(1, 70), age=st.integers(0, 3_000))
    def reserve(self, key: str, need: int, age: int) -> None:
        if key in self.loaded:
            return  # nobody asks for what is loaded, or he joins: tested above
        room = TOTAL_MB - self.used(self.now - age)
        told = wish(key, need, room_mb=room, age_ms=age)
        outcome = self.ledger.reserve(told, self.now)
        if isinstance(outcome, Granted):
            self.loading[key] = (need, self.now + TTL_MS)
        elif isinstance(outcome, HostBusy):
            assert outcome.key in self.loading

    @precondition(lambda self: self.loading)
    @rule(works=st.booleans(), renew=st.booleans())
    def the_load_goes_on(self, works: bool, renew: bool) -> None:
        ((key, (need, _)),) = self.loading.items()
        token = f"{key}-token"
        if renew:
            assert self.ledger.renew(key, token, TTL_MS, self.now)
            self.loading[key] = (need, self.now + TTL_MS)
            return
        del self.loading[key]
        if works:
            assert self.ledger.settle(key, token, self.now)
            self.loaded[key] = (need, self.now)
        else:
            assert self.ledger.release(key, token, self.now)

    @invariant()
    def never_more_than_the_host_has(self) -> None:
        taken = sum(need for need, _ in (*self.loading.values(), *self.loaded.values()))
        assert taken <= TOTAL_MB

    @invariant()
    def one_load_at_a_time(self) -> None:
        assert len(self.ledger.loading(self.now)) <= 1
        assert set(self.ledger.loading(self.now)) == set(self.loading)


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_a_settled_promise_is_forgotten_in_the_end() -> None:
    ledger = Ledger()
    ledger.reserve(wish(), 0)
    ledger.settle("a", "a-token", 1)
    assert ledger.reserved_mb(KEEP_MS, age_ms=KEEP_MS) == 40
    assert ledger.reserved_mb(KEEP_MS + 1, age_ms=KEEP_MS) == 0

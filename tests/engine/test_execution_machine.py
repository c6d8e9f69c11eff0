"""Carrying requests out, many at once, whatever their upstreams do: the pure half, by the clock.

What the lanes do with sockets is in tests/lanes/test_execution.py; here each request only learns
whom to ask, asks, and is told how that went.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from routing.engine.breaker import BreakerState
from routing.engine.catalog import ChainSpec
from routing.engine.decide import Decision, attempts
from routing.engine.errors import NoCandidate, UnknownModel
from routing.engine.need import is_able, is_allowed
from routing.engine.policy import Candidate
from routing.engine.refusal import rejection
from tests.cast import CLOUD, CODER, HERE, PLAIN, SAGE, TINY, Fleet, document

CHAIN = ChainSpec(name="after-sage", models=("tiny", "nobody"), for_model="sage")
MODELS = (TINY, PLAIN, CODER, SAGE)
NEEDS: list[dict[str, Any]] = [
    {},
    {"priority": "critical", "floor": 3},
    {"task": "code", "floor": 2},
    {"model": "sage"},
    {"allowed": frozenset({"tiny", "plain"})},
    {"exclude": frozenset({"tiny@cloud"})},
]


@dataclass
class Request:
    """One under way: whom it may still ask, whom it has asked, and its call, if one is out."""

    decision: Decision
    order: Iterator[Candidate]
    asked: list[str] = field(default_factory=list)
    calling: tuple[Candidate, float] | None = None
    answered: bool = False
    over: bool = False


class Execution(RuleBasedStateMachine):
    """Nobody is asked twice, nobody who may not be, and nobody is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet.of(document(MODELS, (CLOUD, HERE), chains=(CHAIN,)))
        self.fleet.measure("local", available_gb=64, total_gb=64)
        for live in self.fleet.state.live:
            live.loaded = True
        self.requests: list[Request] = []

    @property
    def waiting(self) -> list[Request]:
        return [r for r in self.requests if r.calling is None and not r.over]

    @property
    def calling(self) -> list[Request]:
        return [r for r in self.requests if r.calling is not None]

    @rule(seconds=st.floats(0.001, 3) | st.floats(10, 400))
    def time_passes(self, seconds: float) -> None:
        self.fleet.now += seconds

    @rule(need=st.sampled_from(NEEDS))
    def a_request_comes(self, need: dict[str, Any]) -> None:
        fleet = self.fleet
        try:
            decision = fleet.decide(**need)
        except (NoCandidate, UnknownModel):
            return
        order = attempts(fleet.policy, fleet.state, decision, fleet.clock)
        self.requests.append(Request(decision, order))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def it_asks_the_next(self, data: st.DataObject) -> None:
        self._ask(data.draw(st.sampled_from(self.waiting)))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def it_asks_all_there_are(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting))
        while not request.over:
            self._ask(request)
            if request.calling is not None:
                candidate, began = request.calling
                request.calling = None
                self.fleet.live(candidate.id).breaker.abandon(began)

    def _ask(self, request: Request) -> None:
        fleet, need = self.fleet, request.decision.need
        fleet.now += 0.001  # no two calls begin at once
        candidate = next(request.order, None)
        if candidate is None:
            request.over = True
            self._nobody_was_forgotten(request)
            return
        assert candidate.id not in request.asked, "asked twice"
        assert candidate.id not in need.exclude
        assert is_able(candidate, need)
        assert is_allowed(candidate.model_name, need)
        live = fleet.live(candidate.id)
        assert not rejection(candidate, live, need, fleet.now)
        if not request.asked:
            first = request.decision.chosen
            state = fleet.live(first.id)
            passed_over = bool(rejection(first, state, need, fleet.now))
            assert candidate is first or passed_over, "the choice was passed over"
        request.asked.append(candidate.id)
        assert live.breaker.begin(fleet.now)
        request.calling = (candidate, fleet.now)

    @precondition(lambda self: self.calling)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(("answer", "fault", "busy", "leave")),
        took_s=st.floats(0, 30),
    )
    def it_hears(self, data: st.DataObject, outcome: str, took_s: float) -> None:
        request = data.draw(st.sampled_from(self.calling))
        assert request.calling is not None
        candidate, began = request.calling
        self.fleet.now += took_s
        now, breaker = self.fleet.now, self.fleet.live(candidate.id).breaker
        request.calling = None
        if outcome == "answer":
            breaker.succeed(now, began=began)
            request.answered = request.over = True
        elif outcome == "leave":
            breaker.abandon(began)
            request.over = True
        else:
            wait_s = 20.0 if outcome == "busy" else 0.0
            breaker.fail(now, began=began, retry_after_s=wait_s)
            if wait_s:
                assert not breaker.allows(now + wait_s - 0.001), "asked before the time it named"

    @rule(endpoint=st.sampled_from(("cloud", "here")), up=st.booleans())
    def an_endpoint_goes_or_comes(self, endpoint: str, up: bool) -> None:
        self.fleet.probe(endpoint, up=up)

    @rule(data=st.data())
    def nobody_else_is_left(self, data: st.DataObject) -> None:
        offering = data.draw(st.sampled_from(sorted(self.fleet.state.offerings)))
        breaker = self.fleet.live(offering).breaker
        if breaker.hasten(self.fleet.now):
            assert breaker.allows(self.fleet.now)

    @invariant()
    def a_sick_one_gets_one_call_at_a_time(self) -> None:
        for live in self.fleet.state.live:
            if live.breaker.state is BreakerState.HALF_OPEN:
                assert live.breaker.is_tried(self.fleet.now) or live.breaker.allows(self.fleet.now)

    def _nobody_was_forgotten(self, request: Request) -> None:
        """Once a request gives up, each that could have answered was asked or is refused now."""
        fleet, need = self.fleet, request.decision.need
        named = None
        if need.model is not None:
            named = {need.model, *fleet.policy.chain_for(need.model, need.task)}
        for candidate in fleet.policy.candidates:
            meant = named is None or candidate.model_name in named
            if not (meant and is_able(candidate, need)) or candidate.id in request.asked:
                continue
            live = fleet.live(candidate.id)
            assert rejection(candidate, live, need, fleet.now), f"{candidate.id} was forgotten"


TestExecution = Execution.TestCase
TestExecution.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)

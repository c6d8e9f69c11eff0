"""One call to one offering: the one place where an attempt begins, and where it ends."""

import logging
from collections.abc import Callable

from msgspec.structs import replace

from routing.engine.bounds import is_believable
from routing.engine.breaker import BreakerState
from routing.engine.concurrency import Outcome
from routing.engine.errors import (
    ConnectFailed,
    DeadlineExceeded,
    NotReady,
    ProviderError,
    Unpaid,
    UpstreamTimeout,
)
from routing.engine.policy import Candidate
from routing.engine.scoring import expected_ms
from routing.engine.state import OfferingState
from routing.lanes import load_news
from routing.lanes.entry import enter, enter_at_once
from routing.lanes.gate import Pass, outcome_of
from routing.lanes.job import Job
from routing.lanes.runtime import NOT_KEPT, Runtime
from routing.lanes.till import Tab, lease_for, tab_for
from routing.providers.base import Answer, Piece, Usage
from telemetry.record import HEDGE_LOST, Attempt
from telemetry.spool.errors import SpoolError

logger = logging.getLogger(__name__)

CHARS_PER_TOKEN = 4
CLOSED = BreakerState.CLOSED


class Turn:
    """An attempt under way.

    It ends once: with `succeed`, `fail`, `cut_short`, `lose` or `abandon`.
    """

    __slots__ = (
        "candidate",
        "chars",
        "ended",
        "heard",
        "job",
        "last",
        "live",
        "over",
        "passed",
        "runtime",
        "started",
        "tab",
        "unseen_tokens",
        "when_heard",
    )

    def __init__(
        self,
        runtime: Runtime,
        job: Job,
        candidate: Candidate,
        live: OfferingState,
        started: float,
        passed: Pass | None,
        tab: Tab | None = None,
    ) -> None:
        self.runtime, self.job, self.candidate, self.live = runtime, job, candidate, live
        self.started, self.passed = started, passed
        self.tab = tab  # its money, where a budget counts it
        # What the upstream said of its own work.
        self.last: Answer | Piece | None = None
        self.chars = 0  # of the answer, as far as it came
        self.unseen_tokens = 0  # most that may be made before any comes
        self.heard = False
        self.when_heard: Callable[[], None] | None = None
        self.over = False
        self.ended = 0.0

    def call(self, *, whole: bool) -> None:
        """Its upstream is called now: from here on it may cost."""
        if self.tab is not None:
            self.tab.known_nusd = None
            # Of a whole answer nothing can be seen before its end.
            self.tab.seen = -1 if whole else 0

    def believed(self, usage: Usage | None) -> Usage | None:
        """Return what the upstream counted; None where that cannot be true.

        Then the call is charged all that was held for it.
        """
        if usage is None:
            return None
        prompt, output = usage.prompt_tokens, usage.completion_tokens
        if not prompt and not output:
            return None  # nobody answers for nothing: it did not count
        if is_believable(self.candidate, self.job.need, prompt=prompt, output=output):
            cached = min(max(usage.cached_tokens, 0), prompt)
            return usage if cached == usage.cached_tokens else replace(usage, cached_tokens=cached)
        if self.tab is not None and self.tab.payers is not None:
            self.tab.seen = -1
            self.runtime.ledger.disbelieve()
            self.runtime.overruns.incredible(self.candidate)
        return None

    def speaks(self, ttft_ms: float) -> None:
        """The answer has begun: whatever had to be loaded is loaded."""
        if self.passed is not None:
            # A model that was loaded first says nothing of how busy its endpoint is.
            self.passed.answering(None if self.cold else ttft_ms)

    def commit(self) -> bool:
        """Let this be the attempt whose answer counts; False if it may not be any more."""
        if self.over:
            return False
        if not self.heard:
            self.heard = True
            if self.when_heard is not None:
                self.when_heard()
        return True

    def succeed(self) -> bool:
        """The upstream answered; False if that is of no use any more."""
        if not self.commit() or not self._end(self._outcome()):
            return False
        self._note("", 0)
        self.job.trail.answered_by = self.candidate
        self.job.trail.payer = self.tab
        self.live.used_at = self.ended
        if self.live.breaker.succeed(self.ended, began=self.started):
            self.runtime.breaker_changed(self.live)
        return True

    def fail(self, error: ProviderError) -> None:
        """The upstream did not answer, or not wholly."""
        if self.tab is not None and not self.over:
            self.tab.fail(error)
        if not self._end(outcome_of(error)):
            return
        self._note(error.code, self.tokens)
        self.job.trail.failures.append((self.candidate.model_name, error))
        runtime, live, now = self.runtime, self.live, self.ended
        if isinstance(error, ConnectFailed) and error.refused:
            load_news.note_refused(runtime, live)
        if not error.counts:
            live.breaker.abandon(self.started)
            return
        live.observe_failure()
        wait_s, jitter = error.retry_after_s or 0.0, runtime.jitter()
        if live.breaker.fail(now, began=self.started, jitter=jitter, retry_after_s=wait_s):
            runtime.breaker_changed(live, error.code)

    def cut_short(self) -> None:
        """The caller's deadline ended it in the middle: no fault of the upstream's."""
        if self._end():
            self._note(DeadlineExceeded.code, self.tokens)
            self.live.breaker.abandon(self.started)

    def lose(self) -> None:
        """Another attempt was heard before it: no fault of the upstream's, but it may cost."""
        if not self._end():
            return
        self._note(HEDGE_LOST, self.tokens)
        self.live.breaker.abandon(self.started)
        if self.tab is not None:
            return
        asked = self.job.need.prompt_tokens
        cost = self.candidate.cost_bound_nusd(asked, self.tokens + self.unseen_tokens)
        self.job.trail.add_lost(cost)

    def abandon(self) -> None:
        """The caller left, or a fault of ours: neither says anything about the upstream."""
        if self._end():
            self.live.breaker.abandon(self.started)

    def withdraw(self) -> None:
        """Nobody was called, and whoever refused that has told the breaker."""
        self._end()

    @property
    def cold(self) -> bool:
        """Whether its model was loaded for it."""
        return self.passed is not None and self.passed.cold

    @property
    def took_ms(self) -> float:
        return (self.ended - self.started) * 1000

    @property
    def tokens(self) -> int:
        """About how many tokens of the answer came."""
        return -(-self.chars // CHARS_PER_TOKEN)

    def silence(self, usual_ms: float) -> UpstreamTimeout:
        """Return the error of an attempt that said nothing in time."""
        name, now = self.candidate.endpoint_name, self.runtime.clock()
        error = UpstreamTimeout(name, f"Endpoint '{name}' did not answer in time.")
        # Cut short by the caller's deadline: its fault only if it had the time it usually takes.
        in_time = not self.job.is_late(now)
        error.counts = in_time or (now - self.started) * 1000 >= usual_ms
        return error

    def expected_ms(self) -> float:
        return expected_ms(self.candidate, self.live, self.job.need)

    def _outcome(self) -> Outcome:
        last = self.last
        return Outcome(
            queued_ms=last.waited_ms if last else None,
            busy_ms=last.busy_ms if last else None,
        )

    def _end(self, outcome: Outcome | None = None) -> bool:
        """Give back what the attempt held; False if it was over already."""
        if self.over:
            return False
        self.over = True
        self.ended = self.runtime.clock()
        self.live.in_flight -= 1
        if self.passed is not None:
            self.passed.leave(outcome)
        if self.tab is not None and self.tab.known_nusd == 0:
            self.runtime.release(self.tab)
        return True

    def _note(self, error_type: str, tokens: int) -> None:
        candidate = self.candidate
        took_ms = int(self.took_ms)
        self.job.trail.attempts.append(
            Attempt(candidate.model_name, candidate.endpoint_name, took_ms, error_type, tokens)
        )


async def begin(
    runtime: Runtime,
    job: Job,
    candidate: Candidate,
    *,
    at_once: bool = False,
    more_prompt: int = 0,
) -> Turn | None:
    """Return an attempt that may call its upstream now; None where it may not.

    It waits for its place and its model, as long as the request may; with `at_once`, not at all.
    What it may cost is held then, `more_prompt` bytes beyond the caller's own prompt included.
    Raises NotReady.
    """
    live, asked = runtime.live(candidate), runtime.clock()
    if live is None or not live.breaker.allows(asked):
        return None
    try:
        way_in = enter_at_once if at_once else enter
        passed = await way_in(runtime, job, candidate, live)
    except (ProviderError, TimeoutError) as exc:
        _not_loaded(runtime, job, candidate, live, asked, exc)
        return None
    if passed is None:
        return None
    try:
        tab = await _paid(runtime, job, candidate, more_prompt, at_once=at_once)
    except BaseException as exc:
        passed.leave()
        if not isinstance(exc, Unpaid):
            raise
        if not at_once:
            # A second attempt beside the first need not be paid for.
            job.trail.failures.append((candidate.model_name, exc))
        return None
    started = runtime.clock()
    if not live.breaker.begin(started):
        passed.leave()
        if tab is not None:
            runtime.release(tab)
        return None
    live.in_flight += 1
    turn = Turn(runtime, job, candidate, live, started, passed, tab)
    if live.breaker.state is not CLOSED and not await _may_probe(turn):
        return None
    return turn


async def _paid(
    runtime: Runtime, job: Job, candidate: Candidate, more_prompt: int, *, at_once: bool
) -> Tab | None:
    """Hold what a call may cost, here and where it outlives this process; None if nobody counts.

    Raises Unpaid, NotReady.
    """
    wallet = job.need.wallet
    if wallet is None:
        return None
    tab = tab_for(candidate, job.need, wallet, more_prompt)
    payers, bound = tab.payers, tab.bound_nusd
    if payers is not None:
        if not payers.hold(bound):
            short = runtime.ledger.take(payers, bound, runtime.clock())
            if short is not None:
                await lease_for(runtime, wallet, tab, payers, short, at_once=at_once)
        if job.insure is not None:
            try:
                job.insure(candidate, tab, payers)
            except SpoolError as exc:
                runtime.release(tab)
                logger.error("What a call may cost could not be kept: %s", exc)
                raise NotReady(NOT_KEPT) from exc
    job.trail.tabs.append(tab)
    return tab


async def _may_probe(turn: Turn) -> bool:
    """Return whether this call is the fleet's probe; if not, it has ended."""
    allowed = False
    try:
        allowed = await turn.runtime.allow_probe(
            turn.runtime, turn.live, turn.started, turn.job.deadline
        )
    finally:
        if not allowed:
            turn.withdraw()
    return allowed


def _not_loaded(
    runtime: Runtime,
    job: Job,
    candidate: Candidate,
    live: OfferingState,
    asked: float,
    error: ProviderError | TimeoutError,
) -> None:
    """Count a load that failed like a call that did, except that it is not tried again."""
    if isinstance(error, ProviderError):
        error.retry_same = False
    if live.breaker.begin(asked):
        live.in_flight += 1
        turn = Turn(runtime, job, candidate, live, asked, None)
        turn.fail(error if isinstance(error, ProviderError) else turn.silence(turn.expected_ms()))

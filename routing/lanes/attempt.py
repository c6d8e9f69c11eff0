"""One call to one offering: the one place where an attempt begins, and where it ends."""

from collections.abc import Callable

from routing.engine.breaker import BreakerState
from routing.engine.decide import expected_ms
from routing.engine.errors import DeadlineExceeded, ProviderError, UpstreamTimeout
from routing.engine.policy import Candidate
from routing.engine.state import OfferingState
from routing.lanes.job import Job
from routing.lanes.runtime import Runtime
from telemetry.record import HEDGE_LOST, Attempt

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
        "live",
        "over",
        "runtime",
        "started",
        "unseen_tokens",
        "when_heard",
    )

    def __init__(
        self, runtime: Runtime, job: Job, candidate: Candidate, live: OfferingState, started: float
    ) -> None:
        self.runtime, self.job, self.candidate, self.live = runtime, job, candidate, live
        self.started = started
        self.chars = 0  # of the answer, as far as it came
        self.unseen_tokens = 0  # most that may be made before any comes
        self.heard = False
        self.when_heard: Callable[[], None] | None = None
        self.over = False
        self.ended = 0.0

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
        if not self.commit() or not self._end():
            return False
        self._note("", 0)
        self.job.trail.answered_by = self.candidate
        if self.live.breaker.succeed(self.ended, began=self.started):
            self.runtime.breaker_changed(self.live)
        return True

    def fail(self, error: ProviderError) -> None:
        """The upstream did not answer, or not wholly."""
        if not self._end():
            return
        self._note(error.code, self.tokens)
        self.job.trail.failures.append((self.candidate.model_name, error))
        runtime, live, now = self.runtime, self.live, self.ended
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
        asked = self.job.need.prompt_tokens
        cost = self.candidate.cost_bound_nusd(asked, self.tokens + self.unseen_tokens)
        self.job.trail.add_lost(cost)

    def abandon(self) -> None:
        """The caller left, or a fault of ours: neither says anything about the upstream."""
        if self._end():
            self.live.breaker.abandon(self.started)

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

    def _end(self) -> bool:
        """Give back what the attempt held; False if it was over already."""
        if self.over:
            return False
        self.over = True
        self.ended = self.runtime.clock()
        self.live.in_flight -= 1
        return True

    def _note(self, error_type: str, tokens: int) -> None:
        candidate = self.candidate
        took_ms = int((self.ended - self.started) * 1000)
        self.job.trail.attempts.append(
            Attempt(candidate.model_name, candidate.endpoint_name, took_ms, error_type, tokens)
        )


async def begin(runtime: Runtime, job: Job, candidate: Candidate) -> Turn | None:
    """Return an attempt that may call its upstream now; None where it may not."""
    live, started = runtime.live(candidate), runtime.clock()
    if live is None or not live.breaker.begin(started):
        return None
    if live.breaker.state is not CLOSED and not await runtime.allow_probe(
        runtime, live, started, job.deadline
    ):
        return None
    live.in_flight += 1
    return Turn(runtime, job, candidate, live, started)

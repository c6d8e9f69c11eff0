"""Carry a decision out: attempts in order, under one deadline, until somebody answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec

from routing.engine.concurrency import Outcome
from routing.engine.decide import Decision, Need, attempts, expected_ms
from routing.engine.errors import (
    AttemptsFailed,
    Crowded,
    DeadlineExceeded,
    NoCandidate,
    ProviderError,
    RefusedByUpstream,
    Rejection,
    StreamCut,
    UpstreamTimeout,
)
from routing.engine.policy import Candidate
from routing.engine.state import OfferingState
from routing.lanes.gate import OnWait, Pass, outcome_of
from routing.lanes.runtime import Runtime
from routing.providers.base import Answer, Call, Piece, Provider
from telemetry.record import Attempt

# What the evidence suggests; docs/routing.md says where each figure comes from.
FIRST_TOKEN_S = 15.0
BETWEEN_TOKENS_S = 20.0
# After the finish reason only usage and the end marker can follow; not every server sends them.
AFTER_FINISH_S = 1.0
COLD_LOAD_FACTOR = 2.0
SLOW_ANSWER_FACTOR = 3.0
RETRY_BASE_S = 0.25
# Two different models that blame the request have proved it at fault.
REFUSALS_BELIEVED = 2

CallFor = Callable[[Candidate], Call]


class Trail(msgspec.Struct):
    """What happened on the way to an answer; the record and the errors are made of it."""

    attempts: list[Attempt] = []
    failures: list[tuple[str, ProviderError]] = []
    answered_by: Candidate | None = None
    queued_ms: int = 0  # in admission queues
    queue_position: int = 0  # when it began to wait; 0: it never did

    @property
    def refusals(self) -> list[RefusedByUpstream]:
        passing = ("context_length_exceeded", "model_not_found")
        return [
            e
            for _, e in self.failures
            if isinstance(e, RefusedByUpstream) and e.kind not in passing
        ]


class Job(msgspec.Struct, kw_only=True):
    """One request to carry out; `deadline` is on the runtime's clock, in seconds."""

    decision: Decision
    call_for: CallFor
    deadline: float
    deadline_ms: int
    most_attempts: int | None = None
    trail: Trail
    longest_wait_s: float = 30.0  # for a place at an endpoint
    on_wait: OnWait | None = None

    @property
    def need(self) -> Need:
        return self.decision.need


async def complete(runtime: Runtime, job: Job, *, embed: bool = False) -> Answer:
    """Return the first whole answer any attempt gives.

    Raises AttemptsFailed, DeadlineExceeded, or the RefusedByUpstream that the caller caused.
    """

    async def ask(candidate: Candidate, live: OfferingState, provider: Provider) -> Answer:
        call = job.call_for(candidate)
        allowed_s = _whole_s(candidate, live, job)
        async with asyncio.timeout(min(allowed_s, job.deadline - runtime.clock())):
            return await (provider.embed(call) if embed else provider.complete(call))

    for candidate in _order(runtime, job):
        for again in (False, True):
            started = runtime.clock()
            answer = await _attempt(runtime, job, candidate, ask)
            if answer is not None:
                _learn(runtime, candidate, answer, runtime.clock() - started)
                return answer
            if again or not await _worth_asking_again(runtime, job, candidate):
                break
    raise _outcome(runtime, job)


async def _enter(
    runtime: Runtime, job: Job, candidate: Candidate, live: OfferingState
) -> Pass | None:
    """Return the right to call; None if that would take too long, which the trail then says."""
    passed = runtime.gate.try_enter(candidate, live, job.need)
    if passed is not None:
        return passed

    def waits(position: int, expected_ms: int) -> None:
        job.trail.queue_position = job.trail.queue_position or position
        if job.on_wait is not None:
            job.on_wait(position, expected_ms)

    began = runtime.clock()
    longest_s = min(job.longest_wait_s - job.trail.queued_ms / 1000, job.deadline - began)
    try:
        return await runtime.gate.enter(
            candidate, live, job.need, longest_s=longest_s, on_wait=waits
        )
    except Crowded as exc:
        job.trail.failures.append((candidate.model_name, exc))
        return None
    finally:
        job.trail.queued_ms += int((runtime.clock() - began) * 1000)


async def _attempt(
    runtime: Runtime,
    job: Job,
    candidate: Candidate,
    ask: Callable[[Candidate, OfferingState, Provider], Awaitable[Answer]],
) -> Answer | None:
    """Make one call; None if it failed, with the failure on the trail."""
    live = runtime.live(candidate)
    passed = await _enter(runtime, job, candidate, live) if live is not None else None
    if live is None or passed is None:
        return None
    started = runtime.clock()
    if not live.breaker.begin(started):
        passed.leave()
        return None
    live.in_flight += 1
    outcome: Outcome | None = None
    try:
        answer = await ask(candidate, live, runtime.provider(candidate))
        outcome = Outcome(queued_ms=answer.waited_ms, busy_ms=answer.busy_ms)
    except ProviderError as exc:
        outcome = outcome_of(exc)
        _failed(runtime, job, candidate, live, started, exc)
        return None
    except TimeoutError:
        outcome = Outcome(ok=False, refused=True)
        silent = _silence(runtime, job, candidate, started, expected_ms(candidate, live, job.need))
        _failed(runtime, job, candidate, live, started, silent)
        return None
    except BaseException:
        # The caller left, or a fault of ours: neither says anything about the upstream.
        live.breaker.abandon(started)
        raise
    finally:
        live.in_flight -= 1
        passed.leave(outcome)
    _succeeded(runtime, job, candidate, live, started)
    return answer


def _order(runtime: Runtime, job: Job) -> Iterator[Candidate]:
    """Yield whom to ask next, for as long as asking makes sense."""
    order = attempts(runtime.policy, runtime.state, job.decision, runtime.clock)
    while not _is_over(runtime, job) and (candidate := next(order, None)) is not None:
        yield candidate


def _is_over(runtime: Runtime, job: Job) -> bool:
    if len(job.trail.attempts) == job.most_attempts:
        return True
    return runtime.clock() >= job.deadline or len(job.trail.refusals) >= REFUSALS_BELIEVED


def _outcome(runtime: Runtime, job: Job) -> Exception:
    """Return what to tell the caller when nobody answered."""
    if job.trail.failures and all(isinstance(e, Crowded) for _, e in job.trail.failures):
        return _all_crowded(job.trail)
    if job.trail.refusals:
        return job.trail.refusals[0]
    if runtime.clock() >= job.deadline:
        return DeadlineExceeded(job.deadline_ms)
    return AttemptsFailed(tuple(job.trail.failures))


def _all_crowded(trail: Trail) -> NoCandidate:
    """Return the refusal of a request that nobody could take in time."""
    told = tuple(
        Rejection(model, error.endpoint, error.code, str(error)) for model, error in trail.failures
    )
    waits = [e.retry_after_s for _, e in trail.failures if e.retry_after_s is not None]
    return NoCandidate(told, retry_after_s=min(waits, default=None))


async def _worth_asking_again(runtime: Runtime, job: Job, candidate: Candidate) -> bool:
    """Wait a little and return True if the last failure may pass at the same endpoint."""
    asked = [(a.model, a.endpoint) for a in job.trail.attempts[-1:]]
    if asked != [(candidate.model_name, candidate.endpoint_name)]:
        return False  # its breaker opened, or the policy dropped it
    error = job.trail.failures[-1][1]
    if not error.retry_same or len(job.trail.attempts) == job.most_attempts:
        return False
    wait_s = runtime.jitter() * RETRY_BASE_S
    if error.retry_after_s is not None:
        # Asked to stay away: another candidate is sooner, unless it is hardly any time.
        if error.retry_after_s > RETRY_BASE_S:
            return False
        wait_s = error.retry_after_s
    if runtime.clock() + wait_s >= job.deadline:
        return False
    await asyncio.sleep(wait_s)
    return True


def _failed(
    runtime: Runtime,
    job: Job,
    candidate: Candidate,
    live: OfferingState,
    started: float,
    error: ProviderError,
) -> None:
    now = runtime.clock()
    took_ms = int((now - started) * 1000)
    job.trail.attempts.append(
        Attempt(candidate.model_name, candidate.endpoint_name, took_ms, error.code)
    )
    job.trail.failures.append((candidate.model_name, error))
    if not error.counts:
        live.breaker.abandon(started)
        return
    live.observe_failure()
    wait_s = error.retry_after_s or 0.0
    if live.breaker.fail(now, began=started, jitter=runtime.jitter(), retry_after_s=wait_s):
        runtime.breaker_changed(live)


def _silence(
    runtime: Runtime, job: Job, candidate: Candidate, started: float, expected_ms: float
) -> UpstreamTimeout:
    """Return the error of an attempt that was cut short."""
    name, now = candidate.endpoint_name, runtime.clock()
    error = UpstreamTimeout(name, f"Endpoint '{name}' did not answer in time.")
    # Cut short by the caller's deadline: its fault only if it had the time it usually takes.
    error.counts = now < job.deadline or (now - started) * 1000 >= expected_ms
    return error


def _succeeded(
    runtime: Runtime, job: Job, candidate: Candidate, live: OfferingState, started: float
) -> None:
    now = runtime.clock()
    took_ms = int((now - started) * 1000)
    job.trail.attempts.append(Attempt(candidate.model_name, candidate.endpoint_name, took_ms))
    job.trail.answered_by = candidate
    if live.breaker.succeed(now, began=started):
        runtime.breaker_changed(live)


def _learn(runtime: Runtime, candidate: Candidate, answer: Answer, took_s: float) -> None:
    live = runtime.live(candidate)
    if live is None:
        return
    tokens = answer.usage.completion_tokens if answer.usage else 0
    took_ms = max(0.0, took_s * 1000 - answer.load_ms)
    runtime.state.observe(live, duration_ms=took_ms, output_tokens=tokens, ttft_ms=None)


def _whole_s(candidate: Candidate, live: OfferingState, job: Job) -> float:
    """Return how long a whole answer may take before it counts as a failure, in seconds."""
    expected_s = expected_ms(candidate, live, job.need) / 1000
    return FIRST_TOKEN_S + SLOW_ANSWER_FACTOR * expected_s


def _first_token_s(candidate: Candidate, live: OfferingState) -> float:
    if live.loaded:
        return FIRST_TOKEN_S
    return FIRST_TOKEN_S + COLD_LOAD_FACTOR * candidate.load_prior_ms / 1000


class Stream:
    """A streamed answer past its commit point: its first token has arrived.

    Until then failures were absorbed by asking the next candidate. From here on a failure is the
    caller's to see: iterating raises the ProviderError.
    """

    def __init__(
        self,
        runtime: Runtime,
        job: Job,
        candidate: Candidate,
        live: OfferingState,
        first: Piece,
        rest: AsyncIterator[Piece],
        started: float,
        passed: Pass,
    ) -> None:
        self.candidate = candidate
        self.first_token_s = runtime.clock() - started
        self._runtime, self._job, self._live = runtime, job, live
        self._first, self._rest, self._started = first, rest, started
        self._finished = False
        self._settled = False
        self._passed = passed
        self._last = first

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield every piece, the first one included; raises ProviderError or DeadlineExceeded."""
        piece: Piece | None = self._first
        try:
            while piece is not None:
                self._finished = self._finished or piece.finish_reason is not None
                if piece.waited_ms is not None:
                    self._last = piece
                yield piece
                piece = await self._next()
        except ProviderError as exc:
            self._settle(exc)
            raise
        self._settle(None)

    async def close(self) -> None:
        """End the upstream call, whatever state it is in."""
        # Before any waiting: the caller may leave while the connection is being closed.
        if not self._settled:
            self._settled = True
            self._live.in_flight -= 1
            self._passed.leave()
            self._live.breaker.abandon(self._started)
        await _close(self._rest)

    async def _next(self) -> Piece | None:
        now, job = self._runtime.clock(), self._job
        allowed_s = AFTER_FINISH_S if self._finished else BETWEEN_TOKENS_S
        try:
            async with asyncio.timeout(min(allowed_s, job.deadline - now)):
                return await anext(self._rest, None)
        except (ProviderError, TimeoutError) as exc:
            if self._finished:
                return None
            if isinstance(exc, ProviderError):
                raise
            if self._runtime.clock() >= job.deadline:
                raise DeadlineExceeded(job.deadline_ms) from exc
            name = self.candidate.endpoint_name
            silent = f"Endpoint '{name}' fell silent in the middle of its answer."
            raise UpstreamTimeout(name, silent) from exc

    def _settle(self, error: ProviderError | None) -> None:
        self._settled = True
        self._live.in_flight -= 1
        self._passed.leave(self._outcome() if error is None else outcome_of(error))
        if error is None:
            _succeeded(self._runtime, self._job, self.candidate, self._live, self._started)
        else:
            _failed(self._runtime, self._job, self.candidate, self._live, self._started, error)

    def _outcome(self) -> Outcome:
        last, ttft_ms = self._last, self.first_token_s * 1000
        # A model that was loaded first says nothing of how busy its endpoint is.
        seen = None if self._passed.cold else ttft_ms
        return Outcome(ttft_ms=seen, queued_ms=last.waited_ms, busy_ms=last.busy_ms)

    def learn(self, output_tokens: int, load_ms: float) -> None:
        """Let the averages learn from the finished answer."""
        took_ms = (self._runtime.clock() - self._started) * 1000
        if load_ms > 0:
            # A cold start says nothing about the next, warm one.
            took_ms -= load_ms
        ttft_ms = max(0.0, self.first_token_s * 1000 - load_ms)
        self._runtime.state.observe(
            self._live, duration_ms=took_ms, output_tokens=output_tokens, ttft_ms=ttft_ms
        )


async def open_stream(runtime: Runtime, job: Job) -> Stream:
    """Return a stream whose first token is there; errors as `complete` raises them."""
    for candidate in _order(runtime, job):
        for again in (False, True):
            stream = await _open(runtime, job, candidate)
            if stream is not None:
                return stream
            if again or not await _worth_asking_again(runtime, job, candidate):
                break
    raise _outcome(runtime, job)


async def _open(runtime: Runtime, job: Job, candidate: Candidate) -> Stream | None:
    live = runtime.live(candidate)
    passed = await _enter(runtime, job, candidate, live) if live is not None else None
    if live is None or passed is None:
        return None
    started = runtime.clock()
    if not live.breaker.begin(started):
        passed.leave()
        return None
    live.in_flight += 1
    rest: AsyncIterator[Piece] | None = None
    try:
        rest = runtime.provider(candidate).stream(job.call_for(candidate))
        allowed_s = _first_token_s(candidate, live)
        first = await _first_piece(candidate, rest, allowed_s, job.deadline - started)
    except (ProviderError, TimeoutError) as exc:
        error = exc if isinstance(exc, ProviderError) else None
        live.in_flight -= 1
        error = error or _silence(runtime, job, candidate, started, live.ttft_ms)
        passed.leave(outcome_of(error))
        _failed(runtime, job, candidate, live, started, error)
        await _close(rest)
        return None
    except BaseException:
        live.in_flight -= 1
        passed.leave()
        live.breaker.abandon(started)
        await _close(rest)
        raise
    passed.answering()
    return Stream(runtime, job, candidate, live, first, rest, started, passed)


async def _first_piece(
    candidate: Candidate, pieces: AsyncIterator[Piece], allowed_s: float, left_s: float
) -> Piece:
    """Return the first piece that says anything; role announcements and thoughts do not."""
    loop = asyncio.get_running_loop()
    end = loop.time() + left_s
    async with asyncio.timeout(min(allowed_s, left_s)) as limit:
        async for piece in pieces:
            if piece.text or piece.tool_calls or piece.finish_reason:
                return piece
            # A model that thinks first is at work all the same.
            limit.reschedule(min(loop.time() + BETWEEN_TOKENS_S, end))
    name = candidate.endpoint_name
    raise StreamCut(name, f"Endpoint '{name}' ended its stream before saying anything.")


async def _close(pieces: AsyncIterator[Piece] | None) -> None:
    closing = getattr(pieces, "aclose", None)
    if closing is not None:
        await closing()

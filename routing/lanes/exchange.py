"""One request from its decision to its record."""

import time

import msgspec

from routing.engine.baseline import counterfactual
from routing.engine.decide import Decision, Need, cheapest_bound_nusd, decide
from routing.engine.errors import NotReady
from routing.engine.policy import Candidate
from routing.lanes.ids import new_id
from routing.lanes.job import Trail
from routing.lanes.problems import Failure
from routing.lanes.runtime import Runtime
from routing.providers.base import Usage
from telemetry.record import RequestKind, RequestRecord
from telemetry.spool.errors import SpoolError

CALLER_LEFT = "caller_left"
COST_LIMIT_EXCEEDED = "cost_limit_exceeded"
CALLER_LEFT_STATUS = 499  # nginx's code for a client that closed the connection
MAX_ERROR_CHARS = 500


class Bill(msgspec.Struct):
    """Tokens and cost of an answer."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    cost_nusd: int | None  # with attempts that lost a race; None: a price is not known

    @property
    def cost_usd(self) -> float | None:
        return None if self.cost_nusd is None else self.cost_nusd / 1e9


def estimate_tokens(text: str) -> int:
    """Return about how many tokens `text` has: a token is some four bytes of UTF-8."""
    return (len(text) if text.isascii() else len(text.encode())) // 4 + 1


class Exchange:
    """Collects what the record needs; `succeed` or `fail` writes it, once."""

    __slots__ = (
        "_created_ns",
        "_raw_id",
        "_recorded",
        "_runtime",
        "_started",
        "decision",
        "first_token_ms",
        "kind",
        "need",
        "request_id",
        "selection_us",
        "stream",
        "succeeded",
        "trail",
    )

    def __init__(self, runtime: Runtime, kind: RequestKind, need: Need) -> None:
        self._created_ns = time.time_ns()
        self._raw_id, self.request_id = new_id(self._created_ns)
        self._runtime = runtime
        self._started = runtime.clock()
        self._recorded = False
        self.kind: RequestKind = kind
        self.need = need
        self.decision: Decision | None = None
        self.trail = Trail()
        self.selection_us = 0
        self.first_token_ms = 0
        self.stream = False
        self.succeeded = False

    def decide(self) -> Decision:
        """Return the decision for this request; raises as `engine.decide` does."""
        runtime = self._runtime
        began = runtime.clock()
        decision = decide(runtime.policy, runtime.state, self.need, began)
        self.decision = decision
        self.selection_us = int((runtime.clock() - began) * 1e6)
        return decision

    @property
    def elapsed_ms(self) -> int:
        return int((self._runtime.clock() - self._started) * 1000)

    @property
    def answered_by(self) -> Candidate | None:
        """Return who answered, or the choice where nobody was called."""
        if self.trail.answered_by is not None:
            return self.trail.answered_by
        return self.decision.chosen if self.decision else None

    @property
    def fallback_used(self) -> bool:
        decision, answered = self.decision, self.trail.answered_by
        if decision is None:
            return False
        return bool(decision.relaxed) or (answered is not None and answered is not decision.chosen)

    @property
    def degraded(self) -> bool:
        """Return True if the answer comes from a model below the quality asked for."""
        answered = self.answered_by
        if self.decision is None or answered is None:
            return False
        return bool(self.decision.relaxed) or answered.rank < self.need.floor

    @property
    def reason(self) -> str:
        if self.decision is None:
            return ""
        answered = self.trail.answered_by
        if answered is None or answered is self.decision.chosen:
            return self.decision.reason
        first = self.decision.chosen.id
        if answered is self.trail.hedge and not self.trail.failures:
            return f"{first} was slow; {answered.id} answered first"
        why = self.trail.failures[0][1].code if self.trail.failures else "unavailable"
        return f"{first} failed ({why}); {answered.id} stood in"

    def bill(self, usage: Usage | None, answer_chars: int) -> Bill:
        """Return what the answer used and cost; estimated where the upstream gave no usage."""
        counted = usage or Usage(self.need.prompt_tokens, -(-answer_chars // 4))
        answered = self.answered_by
        tokens = (counted.prompt_tokens, counted.completion_tokens)
        cost = answered.cost_bound_nusd(*tokens) if answered else None
        lost = self.trail.lost_nusd
        if cost is not None:
            cost = None if lost is None else cost + lost
        return Bill(*tokens, estimated=usage is None, cost_nusd=cost)

    def succeed(self, bill: Bill | None = None) -> None:
        """Record success; raises NotReady where the record cannot be kept."""
        self._record(bill, status=200, error_type="", message="")
        self.succeeded = True

    def fail(self, failure: Failure, bill: Bill | None = None) -> None:
        """Record a failure the caller saw; raises NotReady where the record cannot be kept."""
        message = (failure.recorded or failure.detail)[:MAX_ERROR_CHARS]
        self._record(bill, status=failure.status, error_type=failure.code, message=message)

    def caller_left(self, bill: Bill | None = None) -> None:
        left = "The caller closed the connection."
        self._record(bill, status=CALLER_LEFT_STATUS, error_type=CALLER_LEFT, message=left)

    def _record(self, bill: Bill | None, *, status: int, error_type: str, message: str) -> None:
        if self._recorded:
            return
        self._recorded = True
        record = self._build(bill, status, error_type, message)
        try:
            self._runtime.recorder.record(record)
        except SpoolError as exc:
            raise NotReady(f"The record of this request could not be kept: {exc}") from exc

    def _build(
        self, bill: Bill | None, status: int, error_type: str, message: str
    ) -> RequestRecord:
        answered, need, runtime = self.answered_by, self.need, self._runtime
        record = RequestRecord(
            id=self._raw_id,
            request_id=self.request_id,
            kind=self.kind,
            task_type=need.task,
            priority=need.priority,
            created_at_us=self._created_ns // 1000,
            selected_model=answered.model_name if answered else "",
            endpoint=answered.endpoint_name if answered else "",
            chosen_model=self.decision.chosen.model_name if self.decision else "",
            fallback_used=self.fallback_used,
            degraded=self.degraded,
            reason=self.reason,
            success=not error_type,
            status=status,
            error_type=error_type,
            error_message=message,
            response_time_ms=self.elapsed_ms,
            selection_time_us=self.selection_us,
            first_token_ms=self.first_token_ms,
            resource_pressure=runtime.local.pressure,
            stream=self.stream,
            simulated=self.simulated,
            worker=runtime.worker,
            attempts=tuple(self.trail.attempts),
            cost_limit_nusd=need.cost_limit_nusd or 0,
            tenant=need.tenant,
            key=need.key,
            tag=need.tag,
        )
        if bill is not None:
            record.prompt_tokens = bill.prompt_tokens
            record.completion_tokens = bill.completion_tokens
            record.usage_estimated = bill.estimated
            record.cost_known = bill.cost_nusd is not None
            record.cost_nusd = bill.cost_nusd or 0
            self._compare(record, bill)
        if error_type == COST_LIMIT_EXCEEDED:
            record.estimated_cost_nusd = cheapest_bound_nusd(runtime.policy, need)
        return record

    def _compare(self, record: RequestRecord, bill: Bill) -> None:
        """Say what the same tokens would have cost at the baseline."""
        runtime = self._runtime
        tokens = (bill.prompt_tokens, bill.completion_tokens)
        other = counterfactual(runtime.policy, runtime.state, self.need, *tokens, runtime.clock())
        record.baseline_model = other.model
        record.baseline_known = other.nusd is not None
        record.baseline_nusd = other.nusd or 0

    @property
    def simulated(self) -> bool:
        answered = self.answered_by
        if answered is None:
            return False
        live = self._runtime.live(answered)
        return answered.endpoint.simulated or (live is not None and live.endpoint.simulated)

"""One request from its decision to its record."""

import logging
import time

import msgspec
from msgspec.structs import force_setattr

from routing.engine.baseline import counterfactual
from routing.engine.bounds import cheapest_bound_nusd
from routing.engine.decide import Decision
from routing.engine.errors import NotReady
from routing.engine.need import Need, likely_tokens
from routing.engine.payers import Payers
from routing.engine.policy import Candidate
from routing.engine.rate_book import Book
from routing.lanes.ids import new_id
from routing.lanes.job import Trail
from routing.lanes.problems import Failure
from routing.lanes.purchase import affordable
from routing.lanes.runtime import NOT_KEPT, Runtime
from routing.lanes.till import Tab
from routing.lanes.tolls import Toll
from routing.providers.base import Usage
from telemetry.record import Charge, RequestKind, RequestRecord, summed
from telemetry.spool.errors import SpoolError

logger = logging.getLogger(__name__)

CALLER_LEFT = "caller_left"
COST_LIMIT_EXCEEDED = "cost_limit_exceeded"
CUT_OFF = "; cut off at the tokens that were asked and paid for"
CALLER_LEFT_STATUS = 499  # nginx's code for a client that closed the connection
MAX_ERROR_CHARS = 500


class Bill(msgspec.Struct):
    """Tokens and cost of an answer."""

    prompt_tokens: int
    completion_tokens: int
    estimated: bool
    cost_nusd: int | None  # with attempts that lost a race; None: a price is not known
    cached_tokens: int = 0

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
        "_record",
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
        "taken_tokens",
        "toll",
        "trail",
    )

    def __init__(self, runtime: Runtime, kind: RequestKind, need: Need) -> None:
        self._created_ns = time.time_ns()
        self._raw_id, self.request_id = new_id(self._created_ns)
        self._runtime = runtime
        self._started = runtime.clock()
        self._record: RequestRecord | None = None
        self.kind: RequestKind = kind
        self.need = self._budgeted(need)
        self.decision: Decision | None = None
        self.trail = Trail()
        self.selection_us = 0
        self.first_token_ms = 0
        self.stream = False
        self.succeeded = False
        self.toll: Toll | Book | None = None
        self.taken_tokens = 0  # of its caller's limits

    def tokens_to_take(self) -> int:
        """Return how many tokens of its caller's limits this request takes until it is counted."""
        if self.kind == "select":
            return 0
        asked = self.need.prompt_tokens
        return asked if self.kind == "embed" else asked + likely_tokens(self.need)

    def decide(self) -> Decision:
        """Return the decision for this request; raises as `engine.decide` does."""
        runtime = self._runtime
        began = runtime.clock()
        decision = affordable(runtime, self.need, began, self._created_ns / 1e9)
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
        """Return why this model answers, and whether its answer ended where its money did."""
        if self.decision is None:
            return ""
        return self._why(self.decision) + (CUT_OFF if self.trail.cut else "")

    def _why(self, decision: Decision) -> str:
        answered = self.trail.answered_by
        if answered is None or answered is decision.chosen:
            return decision.reason
        first = decision.chosen.id
        if answered is self.trail.hedge and not self.trail.failures:
            return f"{first} was slow; {answered.id} answered first"
        why = self.trail.failures[0][1].code if self.trail.failures else "unavailable"
        return f"{first} failed ({why}); {answered.id} stood in"

    def bill(self, usage: Usage | None, answer_chars: int) -> Bill:
        """Return what the answer used and cost; estimated where the upstream gave no usage."""
        counted = usage or Usage(self.need.prompt_tokens, -(-answer_chars // 4))
        if usage is not None:
            self._learn(usage)
        cost = self._cost(counted, usage)
        return Bill(
            counted.prompt_tokens,
            counted.completion_tokens,
            estimated=usage is None,
            cost_nusd=cost,
            cached_tokens=counted.cached_tokens,
        )

    def _cost(self, counted: Usage, usage: Usage | None) -> int | None:
        answered, trail = self.answered_by, self.trail
        if answered is None or answered.price is None:
            return None
        if trail.tabs:
            if trail.payer is not None:
                # What no budget counts is estimated: nothing limits it to a bound.
                trail.payer.answered(usage if trail.payer.limited else counted)
            cost = 0
            for tab in trail.tabs:
                nusd = tab.known_nusd
                cost += tab.so_far() if nusd is None else nusd
            return cost
        cost = answered.price.cost_nusd(
            counted.prompt_tokens,
            counted.completion_tokens,
            counted.cached_tokens,
            embed=self.need.task == "embedding",
        )
        return None if trail.lost_nusd is None else cost + trail.lost_nusd

    def _learn(self, usage: Usage) -> None:
        """Let the prompt's count teach what this model makes of so many bytes."""
        answered, need, runtime = self.answered_by, self.need, self._runtime
        if answered is None or not need.prompt_bytes:
            return
        if runtime.tokens.see(
            answered.model_name,
            text_bytes=need.prompt_bytes,
            bound=need.prompt_bound,
            tokens=usage.prompt_tokens,
            most=answered.context_length,
        ):
            runtime.learn_excess(answered.model_name)

    def succeed(self, bill: Bill | None = None) -> RequestRecord:
        """Record success and return the record; raises NotReady where it cannot be kept."""
        record = self._keep(bill, status=200, error_type="", message="")
        self.succeeded = True
        return record

    def fail(self, failure: Failure, bill: Bill | None = None) -> None:
        """Record a failure the caller saw; raises NotReady where the record cannot be kept."""
        message = (failure.recorded or failure.detail)[:MAX_ERROR_CHARS]
        self._keep(bill, status=failure.status, error_type=failure.code, message=message)

    def caller_left(self, bill: Bill | None = None) -> None:
        left = "The caller closed the connection."
        self._keep(bill, status=CALLER_LEFT_STATUS, error_type=CALLER_LEFT, message=left)

    def _keep(
        self, bill: Bill | None, *, status: int, error_type: str, message: str
    ) -> RequestRecord:
        """Write the record, once; return it, or the one that was written before."""
        if self._record is not None:
            return self._record
        toll, self.toll = self.toll, None
        if toll is not None:
            used = bill.prompt_tokens + bill.completion_tokens if bill else 0
            toll.settle(self.taken_tokens, used)
        record = self._record = self._build(bill, status, error_type, message)
        tabs = self.trail.tabs
        if tabs:
            _charge(record, tabs)
        try:
            self._runtime.recorder.record(record)
        except SpoolError as exc:
            # What was held stays so: when this process ends, its slots tell of it.
            logger.error("A record could not be kept: %s", exc)
            raise NotReady(NOT_KEPT) from exc
        for tab in tabs:
            if tab.payers is not None:
                self._runtime.close_tab(tab, tab.payers)
        return record

    def insure(self, candidate: Candidate, tab: Tab, payers: Payers) -> None:
        """Keep what a call leaves if this process dies with it: a record of all it may cost.

        Raises SpoolUnavailable; then the call must not be made.
        """
        need, runtime, decision = self.need, self._runtime, self.decision
        chosen = candidate if decision is None else decision.chosen
        alike = (payers, candidate, chosen, self.kind, self.stream, need.priority, need.tag)
        template = runtime.drafts.get(alike) or runtime.drafts.make(alike)
        tab.slot = runtime.recorder.open(
            template, self._raw_id, self._created_ns // 1000, need.prompt_tokens, tab.bound_nusd
        )

    def _budgeted(self, need: Need) -> Need:
        """Return the need with what it may be paid from, by the time the request came."""
        ledger = self._runtime.ledger
        if not ledger.limits_anything:
            return need
        wallet = ledger.wallet(need.tenant, need.key, need.task, need.tag, self._created_ns / 1e9)
        if wallet is not None:
            # Cheaper than a copy, and nobody else has seen the need yet.
            force_setattr(need, "wallet", wallet)
        return need

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
            record.cached_tokens = bill.cached_tokens
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
        tokens = (bill.prompt_tokens, bill.completion_tokens, bill.cached_tokens)
        other = counterfactual(runtime.policy, runtime.state, self.need, tokens, runtime.clock())
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


def _charge(record: RequestRecord, tabs: list[Tab]) -> None:
    """Write down what each budget's lease pays for the request, and the sum as its cost."""
    if len(tabs) == 1:
        (tab,) = tabs
        nusd = tab.fix()
        if nusd and tab.payers is not None:
            record.charges = (Charge(tab.payers.accounts, nusd),)
        record.cost_nusd, record.cost_known = nusd, tab.price is not None
        return
    record.cost_nusd = sum([tab.fix() for tab in tabs])
    record.cost_known = all(tab.price is not None for tab in tabs)
    record.charges = summed(
        Charge(tab.payers.accounts, tab.nusd) for tab in tabs if tab.payers is not None and tab.nusd
    )

"""The one error tree of the data plane; free of any framework.

RoutingError                 nothing of ours below is raised outside of this tree
├── NoCandidate              no offering survived the filter
├── UnknownModel             the caller named a model that the catalogue does not hold
├── ModelNotAllowed          the caller named a model that its key may not use
├── Unidentified             the caller sent no API key, or none that is valid
├── AttemptsFailed           every attempt failed; carries what each one met
├── DeadlineExceeded         the caller's time ran out before anybody answered
├── RateLimited              a limit of the caller's key or tenant is used up
├── BudgetExhausted          a hard budget has less left than the request could cost
├── NotReady                 no policy is loaded yet, or records cannot be kept
│   └── BudgetUnreachable    what is leased of a budget is used up, and PostgreSQL is away
└── ProviderError            one call to one upstream failed
    ├── ConnectFailed        no connection within the connect timeout, or refused, or reset
    ├── UpstreamTimeout      connected, then silent for longer than allowed
    ├── UpstreamBusy         429 or 503: asked to come back later
    ├── UpstreamFault        any other 5xx, or a redirect, which is never followed
    ├── MalformedAnswer      a body that is not what the protocol says
    ├── StreamCut            the stream ended before its end marker
    ├── Crowded              its queue is full, or too long; nobody was asked
    ├── AnswerDiverged       a second answer differs from what was sent of the first
    ├── Unpaid               a budget has less left than it could cost; nobody was asked
    ├── LoadRefused          its model may not be loaded now: LoadsUncoordinated, HostLoading
    └── RefusedByUpstream    4xx: the request itself is at fault; never counts against a breaker
"""

import math
from dataclasses import dataclass

from routing.engine.rates import Limit


class RoutingError(Exception):
    """Base of the tree. `code` is stable and public; `retry_after_s` is advice, if there is any."""

    code = "routing_error"
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one offering was not considered."""

    model: str
    endpoint: str
    reason: str  # one of `REASONS`
    detail: str = ""


class NoCandidate(RoutingError):
    """Raised when the filter leaves no offering, even after relaxing what may be relaxed."""

    code = "no_model_available"

    def __init__(
        self,
        rejections: tuple[Rejection, ...],
        retry_after_s: float | None = None,
        *,
        cost_limited: bool = True,
    ) -> None:
        super().__init__(f"No model can take this request ({len(rejections)} considered).")
        self.cost_limited = cost_limited  # by the caller; else, if at all, by budgets alone
        self.rejections = rejections
        self.retry_after_s = retry_after_s

    def only_because(self, *reasons: str) -> bool:
        """Return True if every offering with the capability was rejected for one of `reasons`."""
        told = {r.reason for r in self.rejections if r.reason != "capability"}
        return bool(told) and told <= set(reasons)


class UnknownModel(RoutingError):
    """Raised when the caller names a model that is not in the catalogue."""

    code = "model_not_found"

    def __init__(self, name: str, nearest: str | None) -> None:
        hint = f" Did you mean '{nearest}'?" if nearest else ""
        super().__init__(f"The model '{name}' is not in the catalogue.{hint}")
        self.name = name
        self.nearest = nearest


class ModelNotAllowed(RoutingError):
    """Raised when the caller names a model that its API key, or its tenant, may not use."""

    code = "not_allowed"

    def __init__(self, name: str) -> None:
        super().__init__(f"Your API key may not use the model '{name}'.")
        self.name = name


class Unidentified(RoutingError):
    """Raised when a caller has no valid API key; the same words whatever is wrong with it."""

    code = "invalid_api_key"

    def __init__(self, *, given: bool) -> None:
        if given:
            super().__init__("This API key is not valid: it is unknown, expired or revoked.")
        else:
            super().__init__("Send an API key, with the header 'Authorization: Bearer ao_…'.")


class DeadlineExceeded(RoutingError):
    """Raised when the deadline of the whole request passes."""

    code = "deadline_exceeded"

    def __init__(self, deadline_ms: int) -> None:
        super().__init__(f"No answer within the deadline of {deadline_ms} ms.")
        self.deadline_ms = deadline_ms


class RateLimited(RoutingError):
    """Raised when a limit is used up: which, whose, and when to come back."""

    code = "rate_limit_exceeded"

    def __init__(self, limit: Limit, retry_after_s: float) -> None:
        super().__init__(
            f"The {limit.of} '{limit.owner}' may {limit.words}, and has."
            f" Come back in {max(math.ceil(retry_after_s), 1)} s."
        )
        self.limit = limit
        self.retry_after_s = retry_after_s


class NotReady(RoutingError):
    """Raised when a worker must not take work: no policy yet, or no room to record it."""

    code = "not_ready"
    retry_after_s = 1.0


@dataclass(frozen=True, slots=True)
class Shortage:
    """Which budget could not pay, in nano-dollars; `resets_at_s` (epoch) is None if it never does.

    `passing`: only calls under way stand in the way; what they do not use comes free.
    """

    budget: str
    limit_nusd: int
    remaining_nusd: int
    needed_nusd: int
    resets_at_s: int | None
    retry_after_s: float | None
    passing: bool = False


class BudgetExhausted(RoutingError):
    """Raised when no permitted model can be paid from what is left of a hard budget."""

    code = "budget_exhausted"

    def __init__(self, shortage: Shortage) -> None:
        left, needed = shortage.remaining_nusd / 1e9, shortage.needed_nusd / 1e9
        told = f"The budget '{shortage.budget}' has {_usd(left)} left; this could cost up to "
        remedy = "Ask for less (a smaller maxTokens or prompt), or raise the budget."
        super().__init__(f"{told}{_usd(needed)}. {remedy}")
        self.shortage = shortage
        self.retry_after_s = shortage.retry_after_s


def _usd(amount: float) -> str:
    """Return dollars with as many digits as small amounts need."""
    return f"${amount:.9f}".rstrip("0").rstrip(".")


class BudgetUnreachable(NotReady):
    """Raised when what this worker holds is used up, and PostgreSQL gives no more in time."""

    code = "budget_unreachable"

    def __init__(self, budget: str) -> None:
        super().__init__(
            f"What this worker may spend of the budget '{budget}' is used up, and PostgreSQL did "
            "not give it more in time; try again soon."
        )


class ProviderError(RoutingError):
    """Base of everything one upstream call can meet; names its endpoint."""

    code = "upstream_error"
    retry_same = False  # is the same endpoint worth asking again?
    counts = True  # does it count against the breaker?
    may_cost = True  # may its upstream have worked, and charge for it?

    def __init__(self, endpoint: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.endpoint = endpoint
        self.retry_after_s = retry_after_s


class ConnectFailed(ProviderError):
    """Raised when no connection could be made, or it broke before the answer began."""

    code = "upstream_unreachable"
    retry_same = True

    def __init__(self, endpoint: str, detail: str, *, refused: bool = False) -> None:
        super().__init__(endpoint, detail)
        self.refused = refused  # nobody listens there: whatever it held is gone


class UpstreamTimeout(ProviderError):
    """Raised when a connected upstream stays silent; it is not asked twice."""

    code = "upstream_timeout"


class UpstreamBusy(ProviderError):
    """Raised on 429 and 503, with `Retry-After` when the upstream gave one."""

    code = "upstream_busy"
    retry_same = True
    may_cost = False


class UpstreamFault(ProviderError):
    """Raised on other 5xx answers, in-band errors and redirects."""

    code = "upstream_fault"
    retry_same = True


class MalformedAnswer(ProviderError):
    """Raised when the body is not what the protocol promises."""

    code = "upstream_malformed"


class StreamCut(ProviderError):
    """Raised when a stream stops before its end marker."""

    code = "upstream_stream_cut"


class Crowded(ProviderError):
    """Raised when an endpoint cannot take a request in time; it was not asked."""

    code = "crowded"
    counts = False
    may_cost = False


class Unpaid(ProviderError):
    """Raised when a budget has less left than a call could cost; nobody was asked."""

    code = "unpaid"
    counts = False
    may_cost = False

    def __init__(self, endpoint: str, shortage: Shortage) -> None:
        super().__init__(endpoint, f"The budget '{shortage.budget}' cannot pay for it.")
        self.shortage = shortage


class AnswerDiverged(ProviderError):
    """Raised when a new answer does not begin with what was released of a broken one."""

    code = "answer_diverged"
    counts = False  # another answer is no fault


class LoadRefused(ProviderError):
    """Raised when a model may not be loaded now; its engine was not asked."""

    code = "memory_fit"
    counts = False
    may_cost = False


class LoadsUncoordinated(LoadRefused):
    """Raised while nobody can say what other workers load: only loaded models are used."""

    code = "uncoordinated"


class HostLoading(LoadRefused):
    """Raised while the host is busy with a load; `retry_after_s` is when it should be done."""

    code = "host_loading"


class RefusedByUpstream(ProviderError):
    """Raised on a 4xx that blames the request; `status` and the upstream's words are passed on."""

    code = "upstream_refused"
    counts = False
    may_cost = False

    def __init__(self, endpoint: str, detail: str, *, status: int, kind: str = "") -> None:
        super().__init__(endpoint, detail)
        self.status = status
        self.kind = kind  # e.g. "context_length_exceeded", "model_not_found"


NOBODY_LEFT = "Every model became unavailable while the request waited; try again."


class AttemptsFailed(RoutingError):
    """Raised when every permitted offering was tried; `failures` says what each one met."""

    code = "all_attempts_failed"

    def __init__(self, failures: tuple[tuple[str, ProviderError], ...]) -> None:
        counted = f"All {len(failures)} attempts failed." if len(failures) > 1 else ""
        super().__init__(counted or ("The attempt failed." if failures else NOBODY_LEFT))
        self.failures = failures
        waits = [e.retry_after_s for _, e in failures if e.retry_after_s is not None]
        # Nobody was asked: another worker probes, or what was chosen went away. Soon it is known.
        self.retry_after_s = min(waits, default=None if failures else 1.0)

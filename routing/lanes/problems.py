"""One mapping from errors to what a caller sees: a status, a problem document, headers."""

import difflib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from routing.engine.catalog import TAG_FORM, TAG_PATTERN
from routing.engine.errors import (
    AttemptsFailed,
    BudgetExhausted,
    Crowded,
    DeadlineExceeded,
    LoadRefused,
    ModelNotAllowed,
    NoCandidate,
    NotReady,
    ProviderError,
    RateLimited,
    RefusedByUpstream,
    RoutingError,
    Unidentified,
    UnknownModel,
    Unpaid,
    UpstreamBusy,
    UpstreamTimeout,
)
from routing.engine.rates import Limit
from routing.lanes.contracts import (
    Problem,
    ProblemBudget,
    ProblemCandidate,
    ProblemField,
    ProblemLimit,
)
from routing.lanes.rate_headers import refusal_headers

TYPE_PREFIX = "urn:ai-orchestra:problem:"
DEFAULT_RETRY_AFTER_S = 5
MAX_CANDIDATES_TOLD = 50
FEW = 3
TOO_LONG = "context_length_exceeded"

TITLES: dict[str, str] = {
    "invalid_request": "The request is not valid",
    "invalid_json": "The body is not valid JSON",
    "body_too_large": "The body is too large",
    "unsupported_media_type": "The content type is not supported",
    "host_not_allowed": "The Host header is not allowed",
    "no_model_available": "No model can take this request now",
    "budget_exhausted": "A budget has too little left",
    "budget_unreachable": "What is left of a budget cannot be told now",
    "cost_limit_exceeded": "Every model could cost more than the limit",
    "price_unknown": "No model that could answer has a known price",
    "context_length_exceeded": "The prompt fits no model's context",
    "not_allowed": "The API key may not use the model",
    "invalid_api_key": "There is no valid API key",
    "model_not_found": "The model is not in the catalogue",
    "all_attempts_failed": "Every permitted model was tried and failed",
    "memory_fit": "The model does not fit its host's memory now",
    "uncoordinated": "Nothing can be loaded while Redis is away",
    "host_loading": "The model's host is loading another one",
    "crowded": "The model's server has too many requests waiting",
    "deadline_exceeded": "The deadline passed",
    "rate_limit_exceeded": "A limit is used up",
    "not_ready": "The service is not ready",
    "idempotency_key_invalid": "The Idempotency-Key cannot be used",
    "idempotency_key_reused": "The Idempotency-Key was used for another request",
    "idempotency_in_progress": "The first request with this key is still under way",
    "idempotency_answer_lost": "The first answer was too large to keep",
    "idempotency_unavailable": "The Idempotency-Key cannot be honoured now",
    "upstream_refused": "The model's server refused the request",
    "exports_busy": "The worker has enough exports under way",
    "redis_unavailable": "Redis does not answer",
    "internal_error": "Something went wrong on our side",
}


class BadRequest(RoutingError):
    """Raised when the caller's request cannot be understood; names fields and remedies."""

    code = "invalid_request"
    status = 400

    def __init__(
        self,
        detail: str,
        *,
        fields: tuple[ProblemField, ...] = (),
        code: str = "invalid_request",
        status: int = 400,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.fields = fields
        self.code = code
        self.status = status


@dataclass(slots=True)
class Failure:
    """An error on its way out, before a lane gives it its protocol's shape."""

    status: int
    code: str
    detail: str
    fields: tuple[ProblemField, ...] = ()
    candidates: tuple[ProblemCandidate, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    # For the record instead of `detail`, where that quotes what an upstream said: it may quote
    # the prompt.
    recorded: str = ""
    limit: Limit | None = None  # the one that is used up
    budget: ProblemBudget | None = None

    def problem(self, request_id: str | None) -> Problem:
        return Problem(
            type=TYPE_PREFIX + self.code,
            title=TITLES.get(self.code, self.code.replace("_", " ").capitalize()),
            status=self.status,
            detail=self.detail,
            code=self.code,
            errors=list(self.fields) or None,
            candidates=list(self.candidates) or None,
            budget=self.budget,
            requestId=request_id,
            limit=_limit(self.limit) if self.limit is not None else None,
        )


def failure_of(exc: RoutingError) -> Failure:
    """Return what a caller is told of `exc`."""
    if isinstance(exc, BadRequest):
        headers = {} if exc.retry_after_s is None else _retry_after(exc.retry_after_s)
        return Failure(exc.status, exc.code, str(exc), exc.fields, headers=headers)
    if isinstance(exc, BudgetExhausted | Unpaid):
        return _exhausted(exc)
    if isinstance(exc, NoCandidate):
        return _no_candidate(exc)
    if isinstance(exc, UnknownModel | ModelNotAllowed | Unidentified | RateLimited):
        return _not_granted(exc)
    if isinstance(exc, RefusedByUpstream):
        return _refused(exc)
    if isinstance(exc, AttemptsFailed):
        return _attempts_failed(exc)
    if isinstance(exc, DeadlineExceeded):
        return Failure(504, exc.code, str(exc))
    if isinstance(exc, NotReady | LoadRefused | Crowded):
        return Failure(503, exc.code, str(exc), headers=_retry_after(exc.retry_after_s))
    if isinstance(exc, ProviderError):
        return Failure(502, exc.code, str(exc), recorded=f"Endpoint '{exc.endpoint}' failed.")
    return internal_error()


def _limit(limit: Limit) -> ProblemLimit:
    return ProblemLimit(limit.name, limit.of, limit.owner, limit.most)


def _not_granted(exc: UnknownModel | ModelNotAllowed | Unidentified | RateLimited) -> Failure:
    if isinstance(exc, RateLimited):
        return Failure(429, exc.code, str(exc), headers=refusal_headers(exc), limit=exc.limit)
    if isinstance(exc, UnknownModel):
        return Failure(404, exc.code, str(exc), (_model_field(exc),))
    if isinstance(exc, ModelNotAllowed):
        one = ProblemField("/model", str(exc), "GET /v1/models lists those it may use.")
        return Failure(403, exc.code, str(exc), (one,))
    return Failure(401, exc.code, str(exc), headers={"www-authenticate": "Bearer"})


def internal_error() -> Failure:
    """Return what a caller is told of a fault of ours: nothing of its inside."""
    return Failure(500, "internal_error", "The request could not be carried out.")


def _refused(exc: RefusedByUpstream) -> Failure:
    status = exc.status if exc.status in (400, 413, 422) else 400
    recorded = f"Endpoint '{exc.endpoint}' refused the request with status {exc.status}."
    return Failure(status, exc.code, str(exc), recorded=recorded)


def _exhausted(exc: BudgetExhausted | Unpaid) -> Failure:
    short = exc.shortage
    resets = None
    if short.resets_at_s is not None:
        resets = datetime.fromtimestamp(short.resets_at_s, UTC).isoformat()
    told = ProblemBudget(
        name=short.budget,
        limitUsd=short.limit_nusd / 1e9,
        remainingUsd=short.remaining_nusd / 1e9,
        neededUsd=short.needed_nusd / 1e9,
        resetsAt=resets,
    )
    headers = {} if short.retry_after_s is None else _retry_after(short.retry_after_s)
    said = str(BudgetExhausted(short))
    return Failure(402, BudgetExhausted.code, said, headers=headers, budget=told)


def _no_candidate(exc: NoCandidate) -> Failure:
    told = tuple(
        ProblemCandidate(r.model, r.endpoint, r.reason, r.detail)
        for r in exc.rejections
        if r.reason != "capability"
    )[:MAX_CANDIDATES_TOLD]
    if exc.only_because("price_unknown") and not exc.cost_limited:
        detail = (
            "A budget limits what may be spent, and no model that could answer has a known price;"
            " give it one in the policy, or name another model."
        )
        return Failure(402, "price_unknown", detail, candidates=told)
    if exc.only_because("cost_limit", "price_unknown"):
        detail = "Every model that could answer may cost more than costLimit; raise it."
        at = ProblemField("/requirements/costLimit", "Too low for every model.", "Raise it.")
        return Failure(402, "cost_limit_exceeded", detail, (at,), told)
    if exc.only_because("not_allowed"):
        detail = "Your API key may use none of the models that can do this; see GET /v1/models."
        return Failure(403, "not_allowed", detail)
    if exc.only_because("context_length"):
        detail = "Prompt and maxTokens together fit no model's context; shorten one of them."
        return Failure(422, TOO_LONG, detail, candidates=told)
    detail = f"{exc}{_summary(told)}"
    if not exc.rejections:
        detail = "No endpoint offers any model yet. Add one in the admin, or start Ollama."
    headers = _retry_after(exc.retry_after_s)
    return Failure(503, exc.code, detail, candidates=told, headers=headers)


def _attempts_failed(exc: AttemptsFailed) -> Failure:
    errors = [error for _, error in exc.failures]
    told = tuple(ProblemCandidate(model, e.endpoint, e.code, str(e)) for model, e in exc.failures)[
        :MAX_CANDIDATES_TOLD
    ]
    said = f"{exc}{_summary(told)}"
    codes = ", ".join(dict.fromkeys(e.code for e in errors))
    recorded = f"{exc} They met: {codes}."
    if all(isinstance(e, UpstreamBusy | LoadRefused) for e in errors):
        headers = _retry_after(exc.retry_after_s)
        return Failure(503, exc.code, said, candidates=told, headers=headers, recorded=recorded)
    if all(isinstance(e, RefusedByUpstream) and e.kind == TOO_LONG for e in errors):
        return Failure(422, TOO_LONG, said, candidates=told, recorded=recorded)
    status = 504 if all(isinstance(e, UpstreamTimeout) for e in errors) else 502
    return Failure(status, exc.code, said, candidates=told, recorded=recorded)


def _summary(told: tuple[ProblemCandidate, ...]) -> str:
    """Return the first few reasons in words, for who sees no more than the message."""
    few = "; ".join(f"{c.model}@{c.endpoint}: {c.detail}".rstrip(".") for c in told[:FEW])
    return f" {few}." if few else ""


def _model_field(exc: UnknownModel) -> ProblemField:
    remedy = f"Did you mean '{exc.nearest}'?" if exc.nearest else "GET /v1/models lists them."
    return ProblemField("/model", f"Unknown model '{exc.name}'.", remedy)


def _retry_after(seconds: float | None) -> dict[str, str]:
    wait = DEFAULT_RETRY_AFTER_S if seconds is None else max(1, int(seconds + 0.999))
    return {"retry-after": str(wait)}


_AT = re.compile(r" - at `(key in )?\$(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_BOUND = re.compile(r"^Expected `(?P<kind>\w+)` (of length )?(?P<sign>[<>])=? ")
_PATTERN = "Expected `str` matching regex"
_FORMS = {TAG_PATTERN: TAG_FORM}
_SIZES = {
    "str": ("text", "short", "long"), "array": ("list", "short", "long"),
    "object": ("object", "small", "large"),
}  # fmt: skip


def bad_request(exc: msgspec.ValidationError, contract: type[msgspec.Struct]) -> BadRequest:
    """Return `exc` as an answer that names the field by JSON pointer, and the remedy."""
    text = str(exc)
    at = _AT.search(text)
    path = at.group("path") if at else ""
    what = _AT.sub("", text)
    pointer = _pointer(path)
    if unknown := _UNKNOWN.match(what):
        name = unknown.group("name")
        pointer = f"{pointer}/{_escape(name)}"
        fields = field_names(contract, path)
        what, remedy = f"Unknown field '{name}'.", _nearest(name, fields)
    elif missing := _MISSING.match(what):
        name = missing.group("name")
        pointer = f"{pointer}/{_escape(name)}"
        what, remedy = f"The field '{name}' is required.", f"Add '{name}'."
    elif bound := _BOUND.match(what):
        noun, less, more = _SIZES.get(bound["kind"], ("number", "small", "large"))
        what = f"The {noun} is too {less if bound['sign'] == '>' else more}."
        remedy = _choices(contract, path)
    elif what.startswith(_PATTERN):
        what, remedy = "The text is not of its form.", _choices(contract, path)
    else:
        what, remedy = f"{what}.", _choices(contract, path)
    one = ProblemField(pointer, what, remedy)
    return BadRequest(f"{pointer or 'The body'}: {what} {remedy}".strip(), fields=(one,))


def bad_json(exc: Exception) -> BadRequest:
    """Return a body that is not JSON as an answer."""
    remedy = "Send one JSON object, in UTF-8."
    one = ProblemField("", str(exc), remedy)
    return BadRequest(
        f"The body is not valid JSON: {exc}. {remedy}", fields=(one,), code="invalid_json"
    )


def _pointer(path: str) -> str:
    """Return a JSON pointer for msgspec's path, e.g. `.messages[3].role` -> /messages/3/role."""
    return "".join(f"/{_escape(part)}" for part in re.findall(r"[^.\[\]]+", path))


def _escape(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def field_names(contract: type[msgspec.Struct], path: str) -> tuple[str, ...]:
    """Return the field names of the struct that `path` leads to within `contract`."""
    found = _type_at(contract, path)
    if isinstance(found, msgspec.inspect.StructType):
        return tuple(f.encode_name for f in found.fields)
    return ()


def _nearest(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known fields: {', '.join(known)}." if known else "Remove it."


def _choices(contract: type[msgspec.Struct], path: str) -> str:
    found = _type_at(contract, path)
    if isinstance(found, msgspec.inspect.LiteralType):
        return f"Use one of: {', '.join(str(v) for v in found.values)}."
    for least, most, unit in (("ge", "le", ""), ("min_length", "max_length", " in length")):
        told = _range(getattr(found, least, None), getattr(found, most, None))
        if told:
            form = _FORMS.get(getattr(found, "pattern", None) or "")
            return f"Use {told}{unit}{f', of {form}' if form else ''}."
    return "Correct its type or value."


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{least}" if least == most else f"{least} to {most}"
    if least is not None:
        return f"at least {least}"
    return "" if most is None else f"at most {most}"


def _type_at(contract: type[msgspec.Struct], path: str) -> Any:
    """Follow a msgspec path through a contract's types; None where it leads nowhere."""
    found: Any = msgspec.inspect.type_info(contract)
    for part in re.findall(r"[^.\[\]]+", path):
        found = _step(_unwrap(found), part)
    return _unwrap(found)


def _step(found: Any, part: str) -> Any:
    if isinstance(found, msgspec.inspect.StructType):
        return next((f.type for f in found.fields if f.encode_name == part), None)
    return getattr(found, "item_type", None)


def _unwrap(found: Any) -> Any:
    """Return what a type is apart from None and metadata."""
    if isinstance(found, msgspec.inspect.Metadata):
        return _unwrap(found.type)
    if isinstance(found, msgspec.inspect.UnionType):
        rest = [t for t in found.types if not isinstance(t, msgspec.inspect.NoneType)]
        return _unwrap(rest[0]) if len(rest) == 1 else found
    return found

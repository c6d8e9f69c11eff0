"""Every error of the tree has a status, a shape and words of its own."""

from collections.abc import Iterator

import msgspec
import pytest

from routing.engine import errors
from routing.engine.errors import (
    AttemptsFailed,
    ConnectFailed,
    DeadlineExceeded,
    ModelNotAllowed,
    NoCandidate,
    NotReady,
    ProviderError,
    RefusedByUpstream,
    Rejection,
    RoutingError,
    Unidentified,
    UnknownModel,
    UpstreamBusy,
    UpstreamTimeout,
)
from routing.lanes.idempotency import Unavailable
from routing.lanes.openai_chat import error_reply
from routing.lanes.problems import BadRequest, failure_of
from routing.lanes.reply import Reply
from routing.providers.transport import Misconfigured

BUSY = UpstreamBusy("e", "busy", retry_after_s=2.5)
SILENT = UpstreamTimeout("e", "silent")
TOO_LONG = RefusedByUpstream("e", "too long", status=400, kind="context_length_exceeded")


def family(kind: type[RoutingError]) -> Iterator[type[RoutingError]]:
    for child in kind.__subclasses__():
        yield child
        yield from family(child)


def failed(*met: ProviderError) -> AttemptsFailed:
    return AttemptsFailed(tuple(("m", error) for error in met))


SHORT = errors.Shortage("team", 10**9, 5 * 10**6, 10**7, None, None)
EXAMPLES: list[tuple[RoutingError, int]] = [
    (BadRequest("no"), 400),
    (BadRequest("no", status=415, code="unsupported_media_type"), 415),
    (NoCandidate(()), 503),
    (NoCandidate((Rejection("m", "e", "breaker_open"),), retry_after_s=3.2), 503),
    (NoCandidate((Rejection("m", "e", "cost_limit"), Rejection("n", "e", "capability"))), 402),
    (NoCandidate((Rejection("m", "e", "context_length"),)), 422),
    (NoCandidate((Rejection("m", "e", "context_length"), Rejection("n", "e", "unhealthy"))), 503),
    (errors.BudgetExhausted(SHORT), 402),
    (errors.Unpaid("e", SHORT), 402),
    (errors.BudgetUnreachable("team"), 503),
    (UnknownModel("x", None), 404),
    (ModelNotAllowed("x"), 403),
    (NoCandidate((Rejection("m", "e", "not_allowed"), Rejection("n", "e", "capability"))), 403),
    (Unidentified(given=True), 401),
    (Unidentified(given=False), 401),
    (DeadlineExceeded(5), 504),
    (NotReady("not yet"), 503),
    (Unavailable("no Redis"), 503),
    (failed(), 503),
    (failed(BUSY, BUSY), 503),
    (failed(SILENT), 504),
    (failed(SILENT, BUSY), 502),
    (failed(TOO_LONG, TOO_LONG), 422),
    (failed(TOO_LONG, SILENT), 502),
    (TOO_LONG, 400),
    (RefusedByUpstream("e", "no", status=422), 422),
    (RefusedByUpstream("e", "no", status=404), 400),
    (BUSY, 502),
    (SILENT, 502),
    (ConnectFailed("e", "no"), 502),
    (Misconfigured("e", "no"), 502),
    (errors.UpstreamFault("e", "no"), 502),
    (errors.MalformedAnswer("e", "no"), 502),
    (errors.StreamCut("e", "no"), 502),
    (errors.Crowded("e", "no", retry_after_s=7.2), 503),
    (errors.AnswerDiverged("e", "no"), 502),
    (errors.LoadRefused("e", "no"), 503),
    (errors.LoadsUncoordinated("e", "no"), 503),
    (errors.HostLoading("e", "no", retry_after_s=7.2), 503),
    (failed(errors.LoadRefused("e", "no"), BUSY), 503),
]


@pytest.mark.parametrize(
    ("error", "status"), EXAMPLES, ids=lambda v: str(v) if isinstance(v, int) else type(v).__name__
)
def test_the_status_of_each(error: RoutingError, status: int) -> None:
    failure = failure_of(error)
    assert failure.status == status
    assert failure.code != "internal_error"
    problem = msgspec.json.decode(Reply.problem(failure, "r").body)
    assert (problem["status"], problem["requestId"]) == (status, "r")
    assert problem["title"]
    assert problem["detail"]
    assert ("retry-after" in failure.headers) == (status == 503)
    told = msgspec.json.decode(error_reply(failure, None).body)["error"]
    assert told["message"] == problem["detail"]


def test_no_error_of_the_tree_is_left_out() -> None:
    told = {type(error) for error, _ in EXAMPLES}
    assert set(family(RoutingError)) - {ProviderError} <= told


def test_codes_are_stable_and_each_its_own() -> None:
    codes = [kind.code for kind in family(RoutingError)]
    assert len(codes) == len(set(codes))


def test_the_first_reasons_are_in_the_message_for_who_sees_no_more() -> None:
    rejections = tuple(Rejection(f"m{i}", "e", "unhealthy", "reported unfit") for i in range(9))
    detail = failure_of(NoCandidate(rejections)).detail
    assert "m0@e: reported unfit; m1@e: reported unfit" in detail
    assert "m3@e" not in detail


def test_long_lists_of_candidates_are_cut() -> None:
    rejections = tuple(Rejection(f"m{i}", "e", "unhealthy") for i in range(500))
    assert len(failure_of(NoCandidate(rejections)).candidates) == 50


@pytest.mark.parametrize(
    ("seconds", "header"), [(None, "5"), (0.0, "1"), (0.2, "1"), (2.0, "2"), (2.1, "3")]
)
def test_a_wait_is_told_in_whole_seconds_and_never_short(
    seconds: float | None, header: str
) -> None:
    assert failure_of(NoCandidate((), retry_after_s=seconds)).headers["retry-after"] == header

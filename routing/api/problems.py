"""The control plane's errors, as the same problem documents the lanes answer with."""

from collections.abc import Iterator
from typing import Any

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_exception_handler

from routing.lanes.contracts import ProblemField
from routing.lanes.openai_chat import error_reply
from routing.lanes.problems import Failure
from routing.lanes.reply import Reply

CODES: dict[int, str] = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    503: "database_unavailable",
}


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn DRF's exceptions into problem documents; None for what is not DRF's."""
    if isinstance(exc, RequestDataTooBig):
        exc = TooLarge()
    response = drf_exception_handler(exc, context)
    if response is None:
        return None
    # A lane has its protocol's own way of putting errors.
    shape = getattr(getattr(context.get("view"), "lane", None), "error_shape", Reply.problem)
    reply = shape(_failure(exc, response), None)
    kept = {k: v for k, v in response.items() if k.lower() in ("allow", "retry-after")}
    return Response(
        msgspec.json.decode(reply.body),
        status=reply.status,
        headers={**kept, **reply.all_headers},
        content_type=None if _is_browsed(context) else reply.content_type,
    )


class TooLarge(exceptions.APIException):
    status_code = 413
    default_detail = "The body is too large; shorten the prompt."
    default_code = "body_too_large"


def _is_browsed(context: dict[str, Any]) -> bool:
    """Return True for the browsable page, which shows a problem too, as HTML."""
    renderer = getattr(context.get("request"), "accepted_renderer", None)
    return getattr(renderer, "format", "") == "api"


def _failure(exc: Exception, response: Response) -> Failure:
    code = getattr(exc, "problem_code", CODES.get(response.status_code, "internal_error"))
    if isinstance(exc, exceptions.ValidationError):
        fields = tuple(_fields(exc.detail))
        text = "; ".join(f"{f.pointer or 'request'}: {f.detail}" for f in fields)
        return Failure(response.status_code, code, text, fields)
    return Failure(response.status_code, code, str(getattr(exc, "detail", exc)))


def _fields(detail: Any, pointer: str = "") -> Iterator[ProblemField]:
    """Walk DRF's nested error detail into one entry a message."""
    if isinstance(detail, dict):
        for name, below in detail.items():
            yield from _fields(below, f"{pointer}/{name}")
    elif isinstance(detail, list):
        for one in detail:
            yield from _fields(one, pointer)
    else:
        yield ProblemField(pointer, str(detail), "")


def refusal(request: HttpRequest, failure: Failure) -> HttpResponse:
    """Return a failure in the shape of the path that was asked for, with its headers."""
    response = _plain(request, failure)
    for name, value in failure.headers.items():
        response[name] = value
    return response


def _plain(request: HttpRequest, failure: Failure) -> HttpResponse:
    # Whoever mistyped an API's path is a program all the same.
    path = "/" + request.path.lstrip("/").lower()
    if not path.startswith(("/api/", "/v1/")):
        return HttpResponse(f"{failure.detail}\n", status=failure.status, content_type="text/plain")
    reply = error_reply(failure, None) if path.startswith("/v1/") else Reply.problem(failure)
    return HttpResponse(reply.body, status=reply.status, content_type=reply.content_type)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what Django itself refuses, such as a Host header that is not ours."""
    detail = "The request is not valid; check its Host header and its URL."
    return _plain(request, Failure(400, "invalid_request", detail))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a path that does not exist."""
    detail = f"There is nothing at {request.path[:200]}; the API is described at /api/docs."
    return _plain(request, Failure(404, "not_found", detail))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer a fault of our own, without a word of its inside."""
    return _plain(request, Failure(500, "internal_error", "The request could not be carried out."))

"""Errors as problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from app import errors
from app.cause import current_request_id
from app.errors import Fault, GatewayError, InvalidRequest, MalformedRequest, NotFound, UnsupportedMedia
from app.mail.nearest import unknown
from app.mail.storable import json_bytes
from app.problems import Problem

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "Request-Id"
"""The header of every response with the id that its log lines have."""
FAULTS_LIMIT = 50
"""The largest number of faults listed for a request."""
RETRY_AFTER_SECONDS = 5
"""When to retry after a failure of a mail server, the database or the disk."""


class MethodNotAllowed(GatewayError):
    code = "method_not_allowed"


class UriTooLong(GatewayError):
    code = "uri_too_long"


class HeadTooLarge(GatewayError):
    code = "head_too_large"


class RequestTimedOut(GatewayError):
    """A client took too long to send its request."""

    code = "request_timeout"


class TooManyConnections(errors.Unavailable):
    code = "too_many_connections"


def problem_of(error: GatewayError) -> dict[str, Any]:
    """Return the problem object of an error."""
    origin = error.origin if isinstance(error, errors.MailServerError) else None
    problem = problem_object(error.problem, _detail(error.detail, error.faults), current_request_id())
    if origin is not None:
        problem["origin"] = {
            "protocol": origin.protocol,
            "response": origin.response,
            "enhanced_code": origin.enhanced_code,
        }
    problem["errors"] = [_fault(fault) for fault in error.faults[:FAULTS_LIMIT]]
    if isinstance(error, errors.StateExpired):
        problem["mailbox_ids"] = list(error.mailbox_ids)
    return problem


def problem_object(row: Problem, detail: str, request_id: str) -> dict[str, Any]:
    """Return the problem object of a row in the table of problems."""
    return {
        "type": f"/v1/problems/{row.code}",
        "title": row.title,
        "status": row.status,
        "detail": detail,
        "code": row.code,
        "retryable": row.is_retryable,
        "fix": row.fix,
        "request_id": request_id,
        "origin": None,
        "errors": [],
    }


def _detail(detail: str, faults: Sequence[Fault]) -> str:
    """Return the detail with the name of the first invalid field and the number of further faults."""
    if not faults:
        return detail
    field = faults[0].parameter or faults[0].pointer
    text = f"`{field}`: {detail}" if field and field not in detail and f"`{_last(field)}`" not in detail else detail
    others = len(faults) - 1
    return text if others == 0 else f"{text} ({others} more in `errors`)"


def _last(field: str) -> str:
    """Return the last step of a JSON pointer."""
    return field.rpartition("/")[2]


def problem_response(error: GatewayError) -> Response:
    """Return the response to a request that failed with this error."""
    problem = problem_of(error)
    headers = {REQUEST_ID: problem["request_id"], **_headers(error)}
    return Response(json_bytes(problem), problem["status"], headers, MEDIA_TYPE)


def problems(*kinds: type[GatewayError]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route that may return these problems, besides the problems of every route."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.problem.status, []).append(kind)
    return {status: response_of(of_status) for status, of_status in sorted(by_status.items())}


def response_of(kinds: Iterable[type[GatewayError]]) -> dict[str, Any]:
    """Return an OpenAPI response object for problems with one status, with their codes in `x-problems`."""
    listed = list(kinds)
    text = "; ".join(f"`{kind.code}`: {kind.problem.title}" for kind in listed)
    model = "StateExpiredProblem" if errors.StateExpired in listed else "Problem"
    return {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{model}"}}},
        "x-problems": [kind.code for kind in listed],
    }


@contextmanager
def parameters_in_body() -> Iterator[None]:
    """Point faults into the body, where a POST takes the query parameters of a GET in its body."""
    try:
        yield
    except InvalidRequest as error:
        raise error.in_body() from None
    except errors.MailboxNotFound as error:
        if error.faults:
            error.pointing_at("/filter")
        raise


def install(app: FastAPI) -> None:
    """Make the application return every error as a problem."""

    async def on_gateway_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return problem_response(error)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(_of_validation(request, error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _of_framework(request, error)

    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)


def _fault(fault: Fault) -> dict[str, str]:
    if fault.parameter is not None:
        return {"parameter": fault.parameter, "detail": fault.detail}
    return {"pointer": fault.pointer or "", "detail": fault.detail}


def _headers(error: GatewayError) -> dict[str, str]:
    if isinstance(error, errors.NotAuthenticated):
        return {"WWW-Authenticate": 'Bearer realm="postgate"'}
    if isinstance(error, errors.RateLimited):
        return {"Retry-After": str(max(1, round(error.retry_after_seconds)))}
    if isinstance(error, errors.RangeNotSatisfiable):
        return {"Content-Range": f"bytes */{error.size_bytes}"}
    if error.is_retryable and error.problem.status in (503, 504, 507):
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {}


def _of_validation(request: Request, error: RequestValidationError) -> GatewayError:
    """Return the error for the framework's validation errors, without content of the request."""
    errors = error.errors()
    is_whole_body = any(tuple(each["loc"]) == ("body",) and each["type"] != "missing" for each in errors)
    if is_whole_body and not _is_json(request):
        return UnsupportedMedia("The body must be application/json")
    if any(each["type"] == "json_invalid" for each in errors):
        return MalformedRequest("The body is not JSON", [Fault("The body is not JSON", pointer="")])
    return invalid(errors)


def invalid(details: Sequence[Mapping[str, Any]]) -> InvalidRequest:
    """Return the error for Pydantic's validation errors; each `loc` begins with body, query, path or header."""
    return InvalidRequest(faults=[_fault_of(each) for each in details[:FAULTS_LIMIT]])


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _fault_of(error: Mapping[str, Any]) -> Fault:
    place, *path = error["loc"]
    detail = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden" and path:
        detail = unknown("field", str(path[-1]), error.get("ctx", {}).get("known", ()))
    if place == "body":
        return Fault(detail, pointer="".join(f"/{_escaped(step)}" for step in path))
    return Fault(detail, parameter=str(path[0]) if path else str(place))


def _escaped(step: object) -> str:
    """Escape a step of a JSON pointer (RFC 6901 §3)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def _of_framework(request: Request, error: HTTPException) -> Response:
    """Return the response for the framework's own errors: 404 for an unknown path, 405, and others."""
    if isinstance(error.__cause__, GatewayError):  # raised while the framework read the body
        return problem_response(error.__cause__)
    if error.status_code == 405:
        response = problem_response(MethodNotAllowed())
        response.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return response
    if error.status_code == 404:
        return problem_response(NotFound("Nothing exists at this path"))
    return problem_response(MalformedRequest(str(error.detail)) if error.status_code < 500 else GatewayError())


def _methods_at(request: Request) -> set[str]:
    """Return the methods of all routes of a path: the framework names only those of the first."""
    methods: set[str] = set()
    for route in request.app.router.routes:
        if isinstance(route, Route) and route.path_regex.match(request.scope["path"]):
            methods |= route.methods or set()
    return methods

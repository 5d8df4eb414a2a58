"""Errors as problem+json (RFC 9457): the only list of HTTP statuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from app import errors
from app.errors import Fault, GatewayError, InvalidRequest, MalformedRequest, NotFound, UnsupportedMedia
from app.mail.storable import json_bytes

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
"""When to retry what failed because a mail server, the database or the disk did."""


class MethodNotAllowed(GatewayError):
    code = "method_not_allowed"
    title = "This resource has no such method"


class UriTooLong(GatewayError):
    code = "uri_too_long"
    title = "The URL is too long"


class HeadTooLarge(GatewayError):
    code = "head_too_large"
    title = "The header fields are too large"


class RequestTimedOut(GatewayError):
    """A client took too long to send its request."""

    code = "request_timeout"
    title = "The request did not arrive in time"
    is_retryable = True


class TooManyConnections(errors.Unavailable):
    code = "too_many_connections"
    title = "There are too many connections"


STATUSES: dict[type[GatewayError], int] = {
    MalformedRequest: 400,
    errors.NotAuthenticated: 401,
    errors.NotPermitted: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    RequestTimedOut: 408,
    errors.Conflict: 409,
    errors.StateExpired: 410,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    UriTooLong: 414,
    UnsupportedMedia: 415,
    errors.RangeNotSatisfiable: 416,
    InvalidRequest: 422,
    errors.TooComplex: 422,
    errors.LoginRefused: 424,
    errors.ServerRefused: 424,
    errors.RateLimited: 429,
    HeadTooLarge: 431,
    errors.ClientLeft: 499,
    GatewayError: 500,
    errors.NotSupported: 501,
    errors.MailServerError: 502,
    errors.Unavailable: 503,
    errors.Unreachable: 503,
    errors.TimedOut: 504,
    errors.StorageFull: 507,
}


def status_of(error: type[GatewayError]) -> int:
    """The HTTP status of a kind of error: its own, or that of the nearest above it."""
    return next(STATUSES[kind] for kind in error.__mro__ if kind in STATUSES)


def problem_of(error: GatewayError) -> dict[str, Any]:
    """The problem object of an error, as in the contract."""
    origin = error.origin if isinstance(error, errors.MailServerError) else None
    faults: Iterable[Fault] = error.faults if isinstance(error, InvalidRequest | MalformedRequest) else ()
    problem: dict[str, Any] = {
        "type": f"/v1/problems/{error.code}",
        "title": error.title,
        "status": status_of(type(error)),
        "detail": error.detail,
        "code": error.code,
        "retryable": error.is_retryable,
        "origin": None
        if origin is None
        else {"protocol": origin.protocol, "response": origin.response, "enhanced_code": origin.enhanced_code},
        "errors": [_fault(one) for one in faults],
    }
    if isinstance(error, errors.StateExpired):
        problem["mailbox_ids"] = list(error.mailbox_ids)
    return problem


def problem_response(error: GatewayError) -> Response:
    """The answer to a request that failed with this error."""
    problem = problem_of(error)
    return Response(json_bytes(problem), problem["status"], _headers(error), MEDIA_TYPE)


def problems(*kinds: type[GatewayError]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that may fail in these ways, beside those that every route may."""
    by_status: dict[int, list[type[GatewayError]]] = {}
    for kind in kinds:
        by_status.setdefault(status_of(kind), []).append(kind)
    return {status: response_of(of_status) for status, of_status in sorted(by_status.items())}


def response_of(kinds: Iterable[type[GatewayError]]) -> dict[str, Any]:
    """An OpenAPI response object: which problems a status stands for."""
    told = list(kinds)
    text = "; ".join(f"`{kind.code}`: {kind.title}" for kind in told)
    model = "StateExpiredProblem" if errors.StateExpired in told else "Problem"
    return {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{model}"}}}}


@contextmanager
def parameters_in_body() -> Iterator[None]:
    """For what a GET takes as query parameters and a POST in its body: faults point into the body."""
    try:
        yield
    except InvalidRequest as error:
        raise error.in_body() from None


def kinds_of_problem() -> dict[str, type[GatewayError]]:
    """Every kind of error by its code."""
    found: dict[str, type[GatewayError]] = {}
    waiting: list[type[GatewayError]] = [GatewayError]
    while waiting:
        kind = waiting.pop()
        found.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return dict(sorted(found.items()))


def install(app: FastAPI) -> None:
    """Let the application answer every error as a problem."""

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
    if isinstance(error, errors.Unreachable | errors.Unavailable) and error.is_retryable:
        return {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return {}


def _of_validation(request: Request, error: RequestValidationError) -> GatewayError:
    """What the framework found wrong with a request, without a word of its content."""
    found = error.errors()
    is_whole_body = any(tuple(one["loc"]) == ("body",) and one["type"] != "missing" for one in found)
    if is_whole_body and not _is_json(request):
        return UnsupportedMedia("The body must be application/json")
    faults = [_fault_of(one) for one in found]
    if any(one["type"] == "json_invalid" for one in found):
        return MalformedRequest("The body is not JSON", [Fault("The body is not JSON", pointer="")])
    return InvalidRequest(faults=faults)


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _fault_of(found: Mapping[str, Any]) -> Fault:
    place, *path = found["loc"]
    detail = str(found["msg"]).removeprefix("Value error, ")
    if place == "body":
        return Fault(detail, pointer="".join(f"/{_escaped(step)}" for step in path))
    return Fault(detail, parameter=str(path[0]) if path else str(place))


def _escaped(step: object) -> str:
    """One step of a JSON pointer (RFC 6901 §3)."""
    return str(step).replace("~", "~0").replace("/", "~1")


def _of_framework(request: Request, error: HTTPException) -> Response:
    """404 of an unknown path, 405, and what the framework itself refuses."""
    if isinstance(error.__cause__, GatewayError):  # ours, met while the framework read the body
        return problem_response(error.__cause__)
    if error.status_code == 405:
        response = problem_response(MethodNotAllowed())
        response.headers["Allow"] = ", ".join(sorted(_methods_at(request)))
        return response
    if error.status_code == 404:
        return problem_response(NotFound("There is nothing at this path"))
    return problem_response(MalformedRequest(str(error.detail)) if error.status_code < 500 else GatewayError())


def _methods_at(request: Request) -> set[str]:
    """The methods of all routes of a path: the framework names those of the first alone."""
    found: set[str] = set()
    for route in request.app.router.routes:
        if isinstance(route, Route) and route.path_regex.match(request.scope["path"]):
            found |= route.methods or set()
    return found

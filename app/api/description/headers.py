"""Headers of requests and responses in the OpenAPI document."""

from __future__ import annotations

from typing import Any

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "integer"}

ANSWER_HEADERS: dict[str, dict[str, Any]] = {
    "Request-Id": {"description": "The id of the request; its log lines have it too", "schema": _TEXT},
    "ETag": {
        "description": "The version of the answer, for `If-None-Match` and `If-Match`",
        "schema": _TEXT,
    },
    "Link": {"description": "The next and the previous page (RFC 8288)", "schema": _TEXT},
    "Location": {"description": "The path of the created resource", "schema": _TEXT},
    "Retry-After": {"description": "Seconds to wait before the next attempt", "schema": _NUMBER},
    "RateLimit": {"description": "The remaining requests of this minute, and when it ends", "schema": _TEXT},
    "RateLimit-Policy": {"description": "The number of requests a minute that the token can make", "schema": _TEXT},
    "Postgate-State": {"description": "The account's state; pass it to `/changes` as `since`", "schema": _TEXT},
    "WWW-Authenticate": {"description": "How to authenticate", "schema": _TEXT},
    "Idempotency-Replayed": {"description": "`true` if the answer is that of an earlier attempt", "schema": _TEXT},
    "Content-Range": {"description": "The bytes that the answer contains", "schema": _TEXT},
    "Content-Disposition": {"description": "`attachment` with the name of the file", "schema": _TEXT},
    "Accept-Ranges": {"description": "`bytes`: the operation supports `Range`", "schema": _TEXT},
}
_RATES = ("RateLimit", "RateLimit-Policy")
_CONDITION = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "An ETag: the answer is 304 if it is still current",
    "schema": _TEXT,
}
_PRECONDITION = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "An ETag: the answer is 412 if the message has changed",
    "schema": _TEXT,
}
_RANGE = {
    "name": "Range",
    "in": "header",
    "required": False,
    "description": "The bytes to return, such as `bytes=0-1023`",
    "schema": _TEXT,
}
_FRESH = {
    "name": "Cache-Control",
    "in": "header",
    "required": False,
    "description": "`no-cache`: ask the mail server first",
    "schema": _TEXT,
}
_OF_STATE = frozenset(
    (
        *("getAccount", "getMailbox", "createMailbox", "updateMailbox", "deleteMailbox", "importMessage"),
        *("getMessage", "updateMessage", "deleteMessage", "getThread", "sendMessage", "getSubmission"),
        *("rescheduleSubmission", "cancelSubmission"),
    )
)
_LOCATED = frozenset(("createAccount", "createMailbox", "createOAuthApp", "createToken", "importMessage"))
_FORCED = frozenset(("listMessages", "searchMessages", "listThreads"))


def add_headers(operation: dict[str, Any]) -> None:
    """Describe the request headers and response headers of an operation."""
    responses, name = operation["responses"], operation["operationId"]
    parameters = operation.setdefault("parameters", [])
    if "304" in responses:
        parameters.append(_CONDITION)
    if "412" in responses:
        parameters.append(_PRECONDITION)
    if "206" in responses:
        parameters.append(_RANGE)
    if name in _FORCED:
        parameters.append(_FRESH)
    if not parameters:
        del operation["parameters"]
    parameter_names = {parameter["name"].lower() for parameter in parameters}
    for status, response in responses.items():
        names = ["Request-Id", *(_RATES if operation.get("security") else ()), *_of_status(status)]
        if status[0] == "2":
            names += _of_success(operation, status, parameter_names)
        response["headers"] = {each: {"$ref": f"#/components/headers/{each}"} for each in names}


def _of_status(status: str) -> tuple[str, ...]:
    known = {"401": ("WWW-Authenticate",), "304": ("ETag",), "416": ("Content-Range",)}
    return known.get(status, ()) or (("Retry-After",) if status in ("429", "503", "504", "507") else ())


def _of_success(operation: dict[str, Any], status: str, parameters: set[str]) -> list[str]:
    names: list[str] = []
    responses, name = operation["responses"], operation["operationId"]
    if "304" in responses or "412" in responses:
        names.append("ETag")
    if "cursor" in parameters:
        names.append("Link")
    if name in _LOCATED:
        names.append("Location")
    if name in _OF_STATE:
        names.append("Postgate-State")
    if "idempotency-key" in parameters:
        names.append("Idempotency-Replayed")
    if "206" in responses:
        names += ["Accept-Ranges", "Content-Disposition"]
    if status == "206":
        names.append("Content-Range")
    return names

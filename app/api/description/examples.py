"""Examples of request bodies, by operation, and of responses, built from example values of fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.api.problems import MEDIA_TYPE as PROBLEM_TYPE

_TIME = "2026-01-31T08:15:00Z"
_SERVER = {"host": "mail.example.com", "port": 993, "security": "tls", "username": "me", "password": "correct horse"}
_IDS: dict[str, Any] = {"message_ids": ["msg_06h2rkn2sn8p6q21bpwmty2y"]}
_MESSAGE: dict[str, Any] = {
    "to": ["Bob <bob@example.org>"],
    "subject": "Lunch on Friday",
    "text": "Shall we meet at noon?",
}

REQUESTS: dict[str, Any] = {
    "batchGetMessages": {**_IDS, "view": "full"},
    "batchMessages": {**_IDS, "keywords": {"add": ["$seen"]}},
    "changePassword": {"old_password": "correct horse", "new_password": "battery staple"},
    "copyMessages": {**_IDS, "mailbox_id": "archive"},
    "createAccount": {
        "kind": "imap",
        "email": "me@example.com",
        "name": "Me",
        "imap": _SERVER,
        "smtp": {**_SERVER, "port": 465},
    },
    "createConnectSession": {"redirect_url": "https://app.example.com/connected", "provider": "google"},
    "createLink": {"attachment_id": "att_06h2rkn2sn8p6q21bpwmty2y", "expires_in_seconds": 300},
    "createMailbox": {"name": "Projects"},
    "createOAuthApp": {"provider": "google", "client_id": "123.apps.example.com", "client_secret": "a secret"},
    "createStreamTicket": {},
    "createToken": {"account_ids": ["acc_06h2rkn1swdchhpwn5x9emtz"], "scopes": ["mail.read", "push"]},
    "importMessage": _MESSAGE,
    "moveMessages": {**_IDS, "mailbox_id": "archive"},
    "refreshSession": {"refresh_token": "pgr_example"},
    "rescheduleSubmission": {"send_at": _TIME},
    "searchAccounts": {"q": "from:ann has:attachment"},
    "searchMessages": {"filter": {"from": "ann", "has_attachments": True}, "limit": 50},
    "sendMessage": _MESSAGE,
    "signIn": {"email": "alice@demo.test", "password": "correct horse"},
    "startProtocolLog": {"minutes": 15},
    "updateAccount": {"name": "Me"},
    "updateMailbox": {"name": "Projects 2026"},
    "updateMessage": {"keywords": {"add": ["$flagged"]}},
    "updateOAuthApp": {"name": "Mail for our app"},
    "updateThread": {"keywords": {"add": ["$seen"]}},
}
_RAW_MESSAGE = "From: Ann <ann@example.org>\r\nTo: me@example.com\r\nSubject: Hello\r\n\r\nHello!\r\n"
TEXTS: dict[str, str] = {
    "application/octet-stream": "The bytes",
    "application/yaml": "asyncapi: 3.1.0\n",
    "message/rfc822": _RAW_MESSAGE,
    "text/event-stream": "id: 42-18f.aBc\nevent: message.deleted\ndata: {…}\n\n",
    "text/html": "<p>Hello!</p>",
    "text/plain": "Hello!\n",
    "*/*": "The bytes",
}
"""Bodies that are not JSON, by media type."""
_VALUES: dict[str, Any] = {
    "account_id": "acc_06h2rkn1swdchhpwn5x9emtz",
    "address": "ann@example.org",
    "code": "message_not_found",
    "content_type": "application/pdf",
    "cursor": "42-18f.aBc",
    "detail": "No message has this id",
    "domain": "example.com",
    "email": "me@example.com",
    "filename": "invoice.pdf",
    "host": "mail.example.com",
    "id": "msg_06h2rkn2sn8p6q21bpwmty2y",
    "keywords": ["$seen"],
    "mailbox_id": "mbx_06h2rkn2s0vbzb5tte3nerm0",
    "mailbox_ids": ["mbx_06h2rkn2s0vbzb5tte3nerm0"],
    "message_id_header": "<CAF1@example.org>",
    "name": "Ann",
    "path": "Projects",
    "port": 993,
    "preview": "Shall we meet at noon?",
    "request_id": "req_06h2rkn2sn8p6q21",
    "size_bytes": 12345,
    "state": "42-18f.aBc",
    "new_state": "42-18f.aBc",
    "status": 200,
    "subject": "Lunch on Friday",
    "text": "Shall we meet at noon?",
    "html": "<p>Shall we meet at noon?</p>",
    "thread_id": "thr_06h2rkn9v3z0s4s09q6e6n0tw",
    "title": "Message not found",
    "type": "/v1/problems/message_not_found",
    "uid": 7,
    "uid_validity": 1,
    "username": "me",
}
_BY_SCHEMA: dict[str, Any] = {
    "ProblemOrigin": {"protocol": "imap", "response": "NO [AUTHENTICATIONFAILED]", "enhanced_code": None},
    "Problem": {
        "type": "/v1/problems/message_not_found",
        "title": "Message not found",
        "status": 404,
        "detail": "No message has this id",
        "code": "message_not_found",
        "retryable": False,
        "fix": None,
        "request_id": "req_06h2rkn2sn8p6q21",
        "origin": None,
        "errors": [],
    },
    "ServerCapabilities": {"capabilities": ["IMAP4rev1", "IDLE", "CONDSTORE"]},
    "FilterInput": {"from": "ann"},
}
_PREFERRED = ("MessageSummary", "MessageDeletedEvent")
"""The schemas that an example prefers where a value has several."""


def add_examples(document: dict[str, Any]) -> None:
    """Add an example to every request body and every successful response."""
    schemas = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                content["example"] = TEXTS.get(media_type) or REQUESTS[operation["operationId"]]
            for response in operation["responses"].values():
                for media_type, content in response.get("content", {}).items():
                    if media_type != PROBLEM_TYPE and "example" not in content:
                        content["example"] = TEXTS.get(media_type) or example_of(content["schema"], schemas)


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], field: str = "") -> Any:
    """Return a value that the schema allows."""
    if "$ref" in schema:
        return _of_component(schema["$ref"].rpartition("/")[2], schemas, field)
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return example_of(_chosen(schema[choice]), schemas, field)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type")
    if field in _VALUES and _fits(_VALUES[field], kind):
        return _VALUES[field]
    if kind == "object":
        return {name: example_of(schema["properties"][name], schemas, name) for name in schema.get("required", ())}
    if kind == "array":
        items = schema.get("items", {})
        return [example_of(items, schemas)] if "$ref" in items else []
    return _plain(schema)


def _of_component(name: str, schemas: Mapping[str, Any], field: str) -> Any:
    if name in _BY_SCHEMA:
        return _BY_SCHEMA[name]
    return example_of(schemas[name], schemas, field)


def _chosen(choices: list[dict[str, Any]]) -> dict[str, Any]:
    named = {choice.get("$ref", "").rpartition("/")[2]: choice for choice in choices}
    return next((named[name] for name in _PREFERRED if name in named), choices[0])


def _fits(value: Any, kind: str | None) -> bool:
    kinds = {"string": str, "integer": int, "array": list}
    return kind in kinds and isinstance(value, kinds[kind])


def _plain(schema: Mapping[str, Any]) -> Any:
    values = {"integer": 1, "number": 1, "boolean": True, "string": "text", "null": None}
    if schema.get("format") == "date-time":
        return _TIME
    return values.get(schema.get("type", ""))

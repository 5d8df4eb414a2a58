"""Shapes of the OpenAPI document: plain schema names, number formats, license, contact and tags."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

LICENSE = {"name": "Apache 2.0", "identifier": "Apache-2.0"}
"""The license of the document and of clients generated from it, as in openapi/LICENSE."""
CONTACT = {"name": "Postgate"}
TAGS = [
    {"name": "accounts", "description": "Accounts and their mail servers."},
    {
        "name": "events",
        "description": "Changes since a state, and events by long poll, Server-Sent Events or WebSocket.",
    },
    {"name": "mailboxes", "description": "Mailboxes of an account."},
    {"name": "messages", "description": "List, search, read, change and import messages."},
    {"name": "oauth", "description": "OAuth apps, and connect sessions with a hosted page."},
    {"name": "sending", "description": "Send messages and follow their delivery."},
    {"name": "service", "description": "The service itself."},
    {"name": "session", "description": "Sign-in with the password of a mailbox."},
    {"name": "threads", "description": "Threads of messages."},
    {"name": "tokens", "description": "Server keys and account tokens."},
]
_PAGE_NAME = re.compile(r"Page_(\w+?)_(?!\w)")
_MODE = re.compile(r"(?<=[A-Za-z])-(?:Input|Output)(?=\\?\")")
_INT32_LIMIT = 2**31


def with_plain_names(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with plain schema names: `AccountList`, one name for requests and responses."""
    schemas = document["components"]["schemas"]
    for name in [name for name in schemas if name.endswith("-Output")]:
        del schemas[name]  # the request's schema is a superset
    text = json.dumps(document).replace("#/$defs/", "#/components/schemas/")  # FastAPI's references of query models
    text = _PAGE_NAME.sub(r"\1List", text)
    renamed: dict[str, Any] = json.loads(_MODE.sub("", text))
    return renamed


def complete_shapes(document: dict[str, Any]) -> None:
    """Add the format of integers, and remove titles that repeat the field's name."""
    for schema in _schemas_in(document):
        if schema.get("type") == "integer" and "format" not in schema:
            schema["format"] = "int32" if schema.get("maximum", _INT32_LIMIT) < _INT32_LIMIT else "int64"
        for limit in ("minimum", "maximum"):
            if limit in schema:
                schema[limit] = int(schema[limit])
        schema.pop("title", None)


def _schemas_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of a document at any depth: objects with a type, a choice of schemas or a reference."""
    if isinstance(value, list):
        for item in value:
            yield from _schemas_in(item)
    elif isinstance(value, dict):
        if any(isinstance(value.get(name), str | list) for name in ("type", "anyOf", "oneOf", "$ref")):
            yield value
        for item in value.values():
            yield from _schemas_in(item)

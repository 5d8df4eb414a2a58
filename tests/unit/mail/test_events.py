"""The registry of events, and what is made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from app.api.application import create_api
from app.api.events_page import with_table
from app.api.openapi import describe_stream
from app.api.schemas.event_types import EVENT_MODELS, event_name
from app.mail.events import EVENTS, EventData, MailboxDeletedEvent, MessageDeleted, MessageMoved, MessageUpdated

PAGE = Path(__file__).parents[3] / "docs" / "events.md"


@cache
def descriptions() -> Sequence[dict[str, Any]]:
    """OpenAPI and AsyncAPI, made once for all tests."""
    return create_api().openapi(), describe_stream()


def test_the_page_of_events_is_what_the_registry_says() -> None:
    assert with_table(PAGE.read_text()) == PAGE.read_text(), "run: make openapi"


def test_every_event_class_with_a_type_is_registered() -> None:
    waiting: list[type[EventData]] = [EventData]
    found: set[str] = set()
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if "type" in vars(kind):
            found.add(kind.type)

    assert found == set(EVENTS)


@pytest.mark.parametrize("type_", EVENTS)
def test_an_event_has_a_schema_of_its_own_in_both_descriptions(type_: str) -> None:
    for document in descriptions():
        schemas = document["components"]["schemas"]
        event, data = schemas[f"{event_name(type_)}Event"], schemas[f"{event_name(type_)}Data"]
        names = {field.name.rstrip("_") for field in fields(EVENTS[type_])}

        assert event["properties"]["type"]["const"] == type_
        assert set(data["properties"]) == {"account_id", "caused_by", *names}
        assert {"$ref": f"#/components/schemas/{event_name(type_)}Event"} in schemas["Event"]["oneOf"]


def test_fields_that_are_absent_are_left_out() -> None:
    event = MessageUpdated("mbx_1", "msg_1", ["keywords"], ["$seen"])

    assert event.facts() == {
        "mailbox_id": "mbx_1", "message_id": "msg_1", "changed": ["keywords"], "keywords": ["$seen"]
    }  # fmt: skip
    assert EVENT_MODELS["message.updated"].__doc__ == MessageUpdated.when


def test_what_has_ended_is_kept_for_changes() -> None:
    assert MessageMoved("msg_1", ["mbx_1"], ["mbx_2"]).ending() == (["mbx_1"], "moved")
    assert MessageDeleted("msg_1", "mbx_1", 7, 1, "merged").ending() == (["mbx_1"], "merged")
    assert MailboxDeletedEvent("mbx_1", "A", "A", None, True, 1).ending() == (None, "deleted")
    assert MessageUpdated("mbx_1", "msg_1", [], []).ending() is None

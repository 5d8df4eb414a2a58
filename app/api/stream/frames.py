"""Events as frames, each encoded once for all sockets that are sent the same."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from app.mailstore.log import Event
from app.services.states import States

FRAMES_KEPT = 16
"""Encodings of one event that stay with it: sockets rarely differ in more than their view."""


def event_frame(states: States, event: Event, view: str, sub_ids: Sequence[str]) -> str:
    """The text of an EventFrame. `view` is "summary" or "ids"."""
    key = (view, *sub_ids)
    frame = event.frames.get(key)
    if frame is None:
        frame = _encoded(states, event, view, sub_ids)
        if len(event.frames) < FRAMES_KEPT:
            event.frames[key] = frame
    return frame


def _encoded(states: States, event: Event, view: str, sub_ids: Sequence[str]) -> str:
    body = event.body if view == "summary" else _without_message(event.body)
    cursor = states.issue(event.account_id, event.position)
    head = {"type": "event", "sub_ids": sub_ids, "seq": event.seq, "cursor": cursor, "event": orjson.Fragment(body)}
    return orjson.dumps(head).decode()


def _without_message(body: bytes) -> bytes:
    """The event for `view=ids`: the id of a message in place of its summary."""
    event = orjson.loads(body)
    message = event["data"].get("message")
    if message is not None:
        event["data"]["message"] = {"id": message["id"]}
    return orjson.dumps(event)

"""Events as frames, each encoded once for all sockets that are sent the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from websockets.frames import Frame, Opcode

from app.mail.event_log import Event
from app.services.following.counts import CountsNews
from app.services.following.states import States

FRAMES_KEPT = 16
"""Encodings of one event that stay with it: sockets rarely differ in more than their view."""


def event_frame(states: States, event: Event, view: str, sub_ids: Sequence[str]) -> bytes:
    """An EventFrame as a whole WebSocket frame. `view` is "summary" or "ids"."""
    key = (view, *sub_ids)
    frame = event.frames.get(key)
    if frame is None:
        frame = on_the_wire(_encoded(states, event, view, sub_ids))
        if len(event.frames) < FRAMES_KEPT:
            event.frames[key] = frame
    return frame


def counts_frame(news: CountsNews) -> bytes:
    """A CountsFrame as a whole WebSocket frame."""
    return _kept(news, "socket", lambda: on_the_wire(_counts_text(news)))


def counts_server_sent(news: CountsNews) -> bytes:
    """The same as a server-sent event. It has no id, so that a client resumes after the last event that has."""
    return _kept(news, "server-sent", lambda: b"event: counts\ndata: " + _counts_text(news) + b"\n\n")


def _kept(news: CountsNews, form: str, encode: Callable[[], bytes]) -> bytes:
    """An encoding, made once for all followers that are sent the same."""
    frames, key = news.snapshot.frames, (form, news.is_whole, news.sight)
    frame = frames.get(key)
    if frame is None:
        frame = encode()
        if len(frames) < FRAMES_KEPT:
            frames[key] = frame
    return frame


def _counts_text(news: CountsNews) -> bytes:
    mailboxes = [{"mailbox_id": id_, "unread": unread, "total": total} for id_, (unread, total) in news.counts()]
    return orjson.dumps({"type": "counts", "account_id": news.snapshot.account_id, "mailboxes": mailboxes})


def on_the_wire(text: bytes) -> bytes:
    """A text as a WebSocket frame: servers do not mask, so that it is the same for every client (RFC 6455 §5.1)."""
    return Frame(Opcode.TEXT, text).serialize(mask=False)


def text_of(frame: bytes) -> str:
    """The text of such a frame."""
    head_bytes = {126: 4, 127: 10}.get(frame[1], 2)
    return frame[head_bytes:].decode()


def _encoded(states: States, event: Event, view: str, sub_ids: Sequence[str]) -> bytes:
    body = event.body if view == "summary" else _without_message(event.body)
    cursor = states.issue(event.account_id, event.position)
    head = {"type": "event", "sub_ids": sub_ids, "seq": event.seq, "cursor": cursor, "event": orjson.Fragment(body)}
    return orjson.dumps(head)


def _without_message(body: bytes) -> bytes:
    """The event for `view=ids`: the id of a message in place of its summary."""
    event = orjson.loads(body)
    message = event["data"].get("message")
    if message is not None:
        event["data"]["message"] = {"view": "ids", "id": message["id"]}
    return orjson.dumps(event)

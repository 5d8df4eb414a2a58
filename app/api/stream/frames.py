"""Encodes events as frames, once for all sockets that get the same frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from websockets.frames import Frame, Opcode

from app.mail.event_log import Event
from app.services.following.counts import CountsNews
from app.services.following.states import States

CACHED_FRAMES = 16
"""Encodings cached with one event: sockets rarely differ in more than the view."""


def event_frame(states: States, event: Event, view: str, sub_ids: Sequence[str]) -> bytes:
    """Return an EventFrame as a complete WebSocket frame. `view` is "summary" or "ids"."""
    key = (view, *sub_ids)
    frame = event.frames.get(key)
    if frame is None:
        frame = on_the_wire(_encoded(states, event, view, sub_ids))
        if len(event.frames) < CACHED_FRAMES:
            event.frames[key] = frame
    return frame


def counts_frame(news: CountsNews) -> bytes:
    """Return a CountsFrame as a complete WebSocket frame."""
    return _cached(news, "socket", lambda: on_the_wire(_counts_text(news)))


def counts_server_sent(news: CountsNews) -> bytes:
    """Return the counts as a server-sent event, without an id: clients resume after the last event with an id."""
    return _cached(news, "server-sent", lambda: b"event: counts\ndata: " + _counts_text(news) + b"\n\n")


def _cached(news: CountsNews, form: str, encode: Callable[[], bytes]) -> bytes:
    """Return an encoding, made once for all followers that get the same frame."""
    frames, key = news.snapshot.frames, (form, news.is_whole, news.sight)
    frame = frames.get(key)
    if frame is None:
        frame = encode()
        if len(frames) < CACHED_FRAMES:
            frames[key] = frame
    return frame


def _counts_text(news: CountsNews) -> bytes:
    mailboxes = [{"mailbox_id": id_, "unread": unread, "total": total} for id_, (unread, total) in news.counts()]
    return orjson.dumps({"type": "counts", "account_id": news.snapshot.account_id, "mailboxes": mailboxes})


def on_the_wire(text: bytes) -> bytes:
    """Return a text as a WebSocket frame. Servers do not mask, so it is the same for every client (RFC 6455 §5.1)."""
    return Frame(Opcode.TEXT, text).serialize(mask=False)


def text_of(frame: bytes) -> str:
    """Return the text of an unmasked text frame."""
    head_bytes = {126: 4, 127: 10}.get(frame[1], 2)
    return frame[head_bytes:].decode()


def _encoded(states: States, event: Event, view: str, sub_ids: Sequence[str]) -> bytes:
    body = event.body if view == "summary" else _without_message(event.body)
    cursor = states.issue(event.account_id, event.position)
    head = {"type": "event", "sub_ids": sub_ids, "seq": event.seq, "cursor": cursor, "event": orjson.Fragment(body)}
    return orjson.dumps(head)


def _without_message(body: bytes) -> bytes:
    """Return the event for `view=ids`: with the id of a message instead of its summary."""
    event = orjson.loads(body)
    message = event["data"].get("message")
    if message is not None:
        event["data"]["message"] = {"view": "ids", "id": message["id"]}
    return orjson.dumps(event)

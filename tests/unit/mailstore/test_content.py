"""What a message costs to be read decides where it is read."""

from __future__ import annotations

import pytest
from app.mailstore.content import weight_of
from app.parsing.jobs import SMALL_BYTES

HEAD = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
HOSTILE = {
    "parts": HEAD + b"--b\n\n" * 200,
    "attached messages": HEAD.replace(b"mixed", b"digest") + b"--b\n\n\n" * 200,
    "addresses": b"To: " + b"a," * 10_000 + b"\r\n\r\n",
    "comments": b"To: " + b"(a)" * 10_000 + b"\r\n\r\n",
    "a header without end": b"To: " + b"a:;" * 10_000,
    "fields": b"a:\n" * 10_000 + b"\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_short_message_that_is_costly_to_read_is_read_beside_the_event_loop(content: bytes) -> None:
    assert len(content) <= SMALL_BYTES
    assert weight_of(content) > SMALL_BYTES


def test_a_usual_message_is_read_at_once() -> None:
    part = b"--b\r\nContent-Type: text/plain\r\n\r\n" + b"A line of text.\r\n" * 400
    content = b"Received: from a by b\r\n" * 100 + HEAD + part * 3 + b"--b--\r\n"

    assert weight_of(content) <= SMALL_BYTES

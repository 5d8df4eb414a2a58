"""What a message of a POP3 server is known by, and when it came."""

from __future__ import annotations

import pytest
from app.mail.types import MailboxId
from app.workers.pop3.reading import glimpse, header_hash, received_at

HEADER = (
    b"Received: by a; Mon, 1 Jan 2024 09:00:00 +0000\r\nSubject: s\r\nDate: Sun, 31 Dec 2023 08:00:00 +0000\r\n\r\n"
)
RECEIVED_MS = 1_704_099_600_000
NOW_MS = 1_800_000_000_000


def test_a_header_is_known_however_its_lines_end() -> None:
    assert header_hash(HEADER) == header_hash(HEADER.replace(b"\r\n", b"\n")) == header_hash(HEADER.rstrip())


@pytest.mark.parametrize("field", [b"Status: RO\r\n", b"X-Status: A\r\n", b"X-UIDL: 123\r\n", b"Content-Length: 9\r\n"])
def test_what_a_server_writes_into_a_header_does_not_count(field: bytes) -> None:
    assert header_hash(field + HEADER) == header_hash(HEADER)


def test_other_headers_are_others() -> None:
    assert header_hash(HEADER) != header_hash(HEADER.replace(b"Subject: s", b"Subject: t"))
    assert header_hash(b"X-Status-Page: a\r\n" + HEADER) != header_hash(HEADER)


@pytest.mark.parametrize(
    ("header", "date_ms", "expected"),
    [
        (HEADER, None, RECEIVED_MS),
        (b"Received: by a\r\n\r\n", 5, NOW_MS),
        (b"Received: by a; Mon, 1 Jan 2099 09:00:00 +0000\r\n\r\n", None, NOW_MS),
        (b"Subject: s\r\n\r\n", 5, 5),
        (b"Subject: s\r\n\r\n", NOW_MS + 1, NOW_MS),
        (b"", None, NOW_MS),
    ],
)
def test_a_message_came_when_its_topmost_received_says(header: bytes, date_ms: int | None, expected: int) -> None:
    assert received_at(header, date_ms, NOW_MS) == expected


def test_a_glimpse_shows_the_header_and_no_more() -> None:
    seen = glimpse(HEADER, 10**9, MailboxId("mbx_1"), NOW_MS)

    assert (seen.overview.subject, seen.size_bytes, seen.received_at_ms) == ("s", 10**9, RECEIVED_MS)
    assert (seen.structure, seen.preview, seen.blob, seen.is_on_server) == (None, None, None, True)
